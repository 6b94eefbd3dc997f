"""One Beam pipeline: files → checked rows → shards of users, ordered → examples, catalog, users, state, summary.

    log files, state, users' files ─ read, clean, deal ─┬─▶ times ─▶ eval cut
                                                        └─▶ by shard ─▶ merge, write: train, eval, users, state, …
    catalog files ─ load as of the cut ─┬───────────────────────▲                └─▶ popularity
                                        └─▶ catalog ◀────────────────────────────────────┘

Elements are files and shards, never rows. A step that meets unusable data does not raise (Beam would wrap the message
in tracebacks): it counts the error in the report, and the verdict is taken once, from the summary, at the end.
"""

import json
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components.errors import DataError
from components.interaction_example_gen import steps
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.files import catalog_files, fingerprint, interaction_files, user_files
from components.interaction_example_gen.judge import judge
from components.interaction_example_gen.plan import ReadPlan
from components.interaction_example_gen.report import Report
from components.interaction_example_gen.span_pattern import SpanPattern
from components.interaction_example_gen.state import read_lineage, state_files, write_lineage
from components.interaction_example_gen.summary import lineage_of, summarize

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to read, and how; the places to write to. `state_uri`: the user state in production, None for none."""

    data_root: str
    contract: DataContract
    config: ExamplesConfig
    plan: ReadPlan
    learned_until_seconds: int
    state_uri: str | None
    examples_uri: str
    catalog_uri: str
    users_uri: str
    new_state_uri: str


def build(pipeline: beam.Pipeline, request: Request) -> dict[str, Any]:
    """Runs `pipeline` to its end and returns the summary, which stands in `examples_uri` too.

    Raises DataError or NothingNew, as `judge` does (the summary is written all the same), and DataError when the files
    changed since the plan was made.
    """
    contract, config, plan = request.contract, request.config, request.plan
    files = _files(request)
    inputs = steps.Inputs(
        contract=contract,
        config=config,
        plan=plan,
        learned_until_seconds=request.learned_until_seconds if config.targets == "new" else 0,
        file_names=[file.name for file in files],
        examples_uri=request.examples_uri,
        catalog_uri=request.catalog_uri,
        users_uri=request.users_uri,
        state_uri=request.new_state_uri,
    )
    window = sorted(plan.fingerprints)
    state = state_files(request.state_uri) if plan.from_state and request.state_uri else []
    before = read_lineage(request.state_uri) if state and request.state_uri else {}

    sources: list[tuple[str, Any]] = [
        *((steps.LOG, file) for file in files),
        *((steps.STATE, path) for path in state),
        (steps.USERS, user_files(request.data_root, contract, window)),
    ]
    dealt, times, dealt_report = _outputs(
        pipeline
        | "Sources" >> beam.Create(sources, reshuffle=True)
        | "ReadCleanDeal" >> _step(steps.deal_source, inputs)
    )
    all_times = times | "AddTimes" >> beam.CombineGlobally(steps.add_times)
    cut = beam.pvalue.AsSingleton(all_times | "Cut" >> beam.Map(steps.cut_of, inputs))
    items, _, items_report = _outputs(
        pipeline
        | "CatalogFiles" >> beam.Create([catalog_files(request.data_root, contract, window)])
        | "LoadItems" >> _step(steps.load_catalog, inputs, cut)
    )
    popularity, _, examples_report = _outputs(
        dealt
        | "ByShard" >> beam.GroupByKey()
        | "MergeAndWrite" >> _step(steps.write_shard, inputs, cut, beam.pvalue.AsList(items))
    )
    _, _, catalog_report = _outputs(
        items | "WriteCatalog" >> _step(steps.write_catalog, inputs, cut, beam.pvalue.AsList(popularity))
    )
    _ = (
        (dealt_report, items_report, examples_report, catalog_report)
        | "Reports" >> beam.Flatten()
        | "Sum" >> beam.CombineGlobally(_total)
        | "Summary" >> beam.Map(_write_summary, inputs, before, beam.pvalue.AsSingleton(all_times), cut)
    )
    pipeline.run().wait_until_finish()
    _files(request)
    with tf.io.gfile.GFile(f"{request.examples_uri}/{SUMMARY_NAME}") as stream:
        summary: dict[str, Any] = json.load(stream)
    judge(summary, config, contract, plan.span)
    return summary


def _files(request: Request) -> list[steps.SourceFile]:
    """The log's files of the plan. Raises DataError when they are not what the plan saw: it asks for another run."""
    plan = request.plan
    files = interaction_files(request.data_root, request.contract, plan.read)
    label = SpanPattern(request.contract.interactions.files).label
    changed = [s for s in plan.read if fingerprint([f for f in files if f.span == s]) != plan.fingerprints[s]]
    if changed:
        names = [file.name for file in files if file.span in changed]
        raise DataError(
            f"span {', '.join(map(label, changed))} changed while it was read: another file, size or time of writing "
            f"than when the run began; there now: {', '.join(names[:5]) or 'none'}. Run again when what writes it is "
            "done; files that are not complete belong under a name that begins with a dot"
        )
    return files


def _step(work: Any, inputs: steps.Inputs, *side: Any) -> beam.ParDo:
    """`work(element, inputs, *side)` yields results, Times and Reports; the latter two go to outputs of their own."""
    return beam.ParDo(_Step(work, inputs), *side).with_outputs("report", "times", main="main")


class _Step(beam.DoFn):
    """One of steps.py in Beam's clothes."""

    def __init__(self, work: Any, inputs: steps.Inputs) -> None:
        self._work = work
        self._inputs = inputs

    def process(self, element: Any, *side):  # type: ignore[no-untyped-def]  # Beam would read hints as its own
        for output in self._work(element, self._inputs, *side):
            if isinstance(output, Report):
                yield beam.pvalue.TaggedOutput("report", output)
            elif isinstance(output, dict):
                yield beam.pvalue.TaggedOutput("times", output)
            else:
                yield output


def _outputs(outputs: Any) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
    return outputs["main"], outputs["times"], outputs["report"]


def _total(reports: Any) -> Report:
    return sum(reports, Report())


def _write_summary(
    report: Report, inputs: steps.Inputs, before: dict[str, Any], times: steps.Times, cut: int | None
) -> None:
    summary = summarize(
        report,
        times,
        plan=inputs.plan,
        contract=inputs.contract,
        before=before,
        cut=cut,
        learned_until_seconds=inputs.learned_until_seconds,
    )
    tf.io.gfile.makedirs(inputs.examples_uri)
    with tf.io.gfile.GFile(f"{inputs.examples_uri}/{SUMMARY_NAME}", "w") as stream:
        stream.write(json.dumps(summary, indent=1))
    write_lineage(inputs.state_uri, lineage_of(summary, inputs.plan, before))
