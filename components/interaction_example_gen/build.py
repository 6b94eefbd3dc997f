"""One Beam pipeline: files → checked tables → shards of users, ordered → examples, catalog, user state, summary.

    interaction files ─ read, clean ─ partition by user ─▶ order ─┬─▶ newest timestamps ─▶ eval cut
    catalog files ─ load ────────┘ (its ids)                      └─▶ train, eval, users ◀─ the cut, users' features
                    └─▶ catalog ◀─ popularity

Elements are files and shards, never rows. A step that meets unusable data does not raise (Beam would wrap the message
in tracebacks): it counts the error in the report, and the verdict is taken once, from the summary, at the end.
"""

import json
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components.interaction_example_gen import steps
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.files import catalog_files, interaction_files, user_files, window_spans
from components.interaction_example_gen.judge import judge
from components.interaction_example_gen.report import Report

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to read, and how; the three places to write to."""

    data_root: str
    contract: DataContract
    config: ExamplesConfig
    span: int
    learned_until_seconds: int
    examples_uri: str
    catalog_uri: str
    users_uri: str


def build(pipeline: beam.Pipeline, request: Request) -> dict[str, Any]:
    """Runs `pipeline` to its end and returns the summary, which stands in `examples_uri` too.

    Raises DataError or DataStopped, as `judge` does; the summary is written all the same.
    """
    contract, config = request.contract, request.config
    spans = window_spans(request.span, config.window_spans)
    files = interaction_files(request.data_root, contract, spans)
    inputs = steps.Inputs(
        contract=contract,
        config=config,
        span=request.span,
        learned_until_seconds=request.learned_until_seconds,
        file_names=[file.name for file in files],
        examples_uri=request.examples_uri,
        catalog_uri=request.catalog_uri,
        users_uri=request.users_uri,
    )
    summary_path = f"{request.examples_uri}/{SUMMARY_NAME}"

    items, items_report = _outputs(
        pipeline
        | "CatalogFiles" >> beam.Create([catalog_files(request.data_root, contract)])
        | "LoadItems" >> _step(steps.load_catalog, inputs)
    )
    items_side = beam.pvalue.AsList(items)
    users, users_report = _outputs(
        pipeline
        | "UserFiles" >> beam.Create([user_files(request.data_root, contract)])
        | "LoadUsers" >> _step(steps.load_user_shards, inputs)
    )
    rows, rows_report = _outputs(
        pipeline
        | "LogFiles" >> beam.Create(files, reshuffle=True)
        | "ReadAndClean" >> _step(steps.read_shards, inputs, items_side)
    )
    logs, logs_report = _outputs(rows | "ByShard" >> beam.GroupByKey() | "Order" >> _step(steps.order_shard, inputs))
    cut = beam.pvalue.AsSingleton(
        logs
        | "NewestTimes" >> beam.FlatMap(steps.newest_timestamps, inputs)
        | "GatherTimes" >> beam.CombineGlobally(steps.gather)
        | "Cut" >> beam.Map(steps.cut_of, config.eval_fraction)
    )
    popularity, examples_report = _outputs(
        {"log": logs, "users": users}
        | "WithUsers" >> beam.CoGroupByKey()
        | "WriteExamples" >> _step(steps.write_shard, inputs, cut)
    )
    _, catalog_report = _outputs(
        items | "WriteCatalog" >> _step(steps.write_catalog, inputs, beam.pvalue.AsList(popularity))
    )
    reports = (items_report, users_report, rows_report, logs_report, examples_report, catalog_report)
    _ = (
        reports
        | "Reports" >> beam.Flatten()
        | "Sum" >> beam.CombineGlobally(_total)
        | "Summary" >> beam.Map(_write_summary, summary_path, spans, request.learned_until_seconds)
    )
    pipeline.run().wait_until_finish()
    with tf.io.gfile.GFile(summary_path) as stream:
        summary: dict[str, Any] = json.load(stream)
    judge(summary, config, request.span, contract.interactions.types)
    return summary


def _step(work: Any, inputs: steps.Inputs, *side: Any) -> beam.ParDo:
    """`work(element, inputs, *side)` yields tables and Reports; the Reports go to an output of their own."""
    return beam.ParDo(_Step(work, inputs), *side).with_outputs("report", main="main")


class _Step(beam.DoFn):
    """One of steps.py in Beam's clothes."""

    def __init__(self, work: Any, inputs: steps.Inputs) -> None:
        self._work = work
        self._inputs = inputs

    def process(self, element: Any, *side):  # type: ignore[no-untyped-def]  # Beam would read hints as its own
        for output in self._work(element, self._inputs, *side):
            yield beam.pvalue.TaggedOutput("report", output) if isinstance(output, Report) else output


def _outputs(outputs: Any) -> tuple[beam.PCollection, beam.PCollection]:
    return outputs["main"], outputs["report"]


def _total(reports: Any) -> Report:
    return sum(reports, Report())


def _write_summary(report: Report, path: str, spans: tuple[int, ...], learned_until_seconds: int) -> None:
    summary = report.summary(spans=spans, learned_until_seconds=learned_until_seconds)
    tf.io.gfile.makedirs(path.rsplit("/", 1)[0])
    with tf.io.gfile.GFile(path, "w") as stream:
        stream.write(json.dumps(summary, indent=1))
