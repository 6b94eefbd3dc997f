"""Examples for trials: one build of a window and its Transform, in this process, with the pipeline's own nodes.

InteractionExampleGen ─▶ examples, catalog ─ Transform ─▶ graphs and transformed examples
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import apache_beam as beam
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio

from components.errors import DataError
from components.interaction_example_gen.build import Request, build
from components.interaction_example_gen.contract import ExamplesConfig, InteractionsContract
from components.interaction_example_gen.files import existing_spans
from components.interaction_example_gen.plan import make_plan
from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.config import PipelineConfig, to_json
from trainer.features import Features
from trainer.preprocessing import catalog_preprocessing_fn, catalog_spec, preprocessing_fn, sequence_spec


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Places of the transformed examples; `last_seconds`: span → its newest interaction."""

    folder: Path
    cut_seconds: int
    last_seconds: dict[int, int]
    log: InteractionsContract

    def files(self, dataset: str, split: str) -> list[str]:
        return sorted(map(str, (self.folder / dataset / "transformed").glob(f"{split}*")))

    def graph(self, dataset: str) -> str:
        return str(self.folder / dataset / "graph")

    def start_seconds(self, span: int) -> int:
        """First second of a span: by its date, else the second after the newest interaction of the spans before it.

        One that is newer than all of the span is of a clock that is wrong, and not asked.
        """
        if bounds := SpanPattern(self.log.files).bounds_seconds(span, ZoneInfo(self.log.time_zone)):
            return bounds[0]
        end = max(seconds for number, seconds in self.last_seconds.items() if number >= span)
        return 1 + max((s for number, s in self.last_seconds.items() if number < span and s < end), default=-1)


def newest(config: PipelineConfig, span: int | None) -> tuple[int, int]:
    """The span to end with, the newest where none is asked for, and how many there are up to it, counted by number.

    Raises:
      DataError: it has no files.
    """
    pattern = SpanPattern(config.contract.interactions.files)
    existing = existing_spans(config.data_root, config.contract)
    if not existing or (span is not None and span not in existing):
        asked = "" if span is None else f"for span {pattern.label(span)} "
        there = f"spans with files: {pattern.labels(existing[-10:])}"
        raise DataError(f"nothing {asked}matches {pattern.files!r} below {config.data_root!r}; {there}")
    last = existing[-1] if span is None else span
    return last, last - existing[0] + 1


def prepare(config: PipelineConfig, examples: ExamplesConfig, span: int, folder: Path) -> Prepared:
    """Examples of the spans up to `span`, made as `examples` says, as for the first run of all.

    Raises DataError and DataStopped, as a run does.
    """
    summary = _build(config, examples, span, folder)
    _transform(config.contract.features(), config.beam_pipeline_args, folder)
    last = {int(number): figures["last_timestamp_seconds"] for number, figures in summary["figures"].items()}
    return Prepared(
        folder=folder,
        cut_seconds=summary["eval_from_seconds"],
        last_seconds={number: seconds for number, seconds in last.items() if seconds is not None},
        log=config.contract.interactions,
    )


def _build(config: PipelineConfig, examples: ExamplesConfig, span: int, folder: Path) -> dict[str, Any]:
    request = Request(
        data_root=config.data_root,
        contract=config.contract,
        config=examples,
        plan=make_plan(config.data_root, config.contract, examples, span),
        learned_until_seconds=0,
        state_uri=None,
        examples_uri=str(folder / "examples"),
        catalog_uri=str(folder / "catalog"),
        users_uri=str(folder / "users"),
        new_state_uri=str(folder / "state"),
    )
    return build(beam.Pipeline(options=PipelineOptions(list(config.beam_pipeline_args))), request)


def _transform(features: Features, beam_pipeline_args: Sequence[str], folder: Path) -> None:
    """Both Transform nodes of a run, in one Beam pipeline: graphs and transformed examples below `folder`."""
    datasets = (
        ("examples", sequence_spec(features), preprocessing_fn, ("train", "eval")),
        ("catalog", catalog_spec(features), catalog_preprocessing_fn, ("all",)),
    )
    custom_config = {"features": to_json(features)}
    options = PipelineOptions(list(beam_pipeline_args))
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        for name, spec, function, splits in datasets:
            schema = schema_utils.schema_from_feature_spec(spec)
            data = {}
            for split in splits:
                pattern = str(folder / name / f"Split-{split}" / "*")
                source = tfxio.TFExampleRecord(pattern, schema=schema, telemetry_descriptors=["trials"])
                data[split] = (pipeline | f"Read {name} {split}" >> source.BeamSource(), source.TensorAdapterConfig())
            analyze = tft_beam.AnalyzeDataset(partial(function, custom_config=custom_config))
            graph = data[splits[0]] | f"Analyze {name}" >> analyze
            _ = graph | f"Write {name} graph" >> tft_beam.WriteTransformFn(str(folder / name / "graph"))
            for split in splits:
                transform = tft_beam.TransformDataset(output_record_batches=True)
                transformed, metadata = (data[split], graph) | f"Transform {name} {split}" >> transform
                _ = (
                    transformed
                    | f"Encode {name} {split}" >> beam.FlatMap(_encoded, metadata.schema)
                    | f"Write {name} {split}"
                    >> beam.io.WriteToTFRecord(str(folder / name / "transformed" / split), file_name_suffix=".gz")
                )


def _encoded(transformed: tuple[Any, Any], schema: Any) -> list[bytes]:
    """An Arrow batch, with what TFT passes through beside it → its examples."""
    encoded: list[bytes] = RecordBatchToExamplesEncoder(schema).encode(transformed[0])
    return encoded
