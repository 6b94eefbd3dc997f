"""DataGate: lets a span into training, or stops the run with the reasons."""

import json
import logging
from pathlib import Path

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema

from components.artifacts import DataVerdict, Production
from components.data_gate.config import GateConfig
from components.data_gate.decide import decide
from components.data_gate.read_evidence import Source, read_evidence
from components.errors import DataStopped
from serving.registry import Registry

log = logging.getLogger("evergreen.data_gate")


@component
def DataGate(
    statistics: InputArtifact[ExampleStatistics],
    catalog_statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    catalog_schema: InputArtifact[Schema],
    anomalies: InputArtifact[ExampleAnomalies],
    catalog_anomalies: InputArtifact[ExampleAnomalies],
    examples: InputArtifact[Examples],
    production: InputArtifact[Production],
    verdict: OutputArtifact[DataVerdict],
    span: Parameter[int],
    registry_url: Parameter[str],
    config: Parameter[str],
) -> None:
    """Writes `verdict.json`; `config` is a GateConfig as JSON.

    Raises DataStopped on a stop, after the span is `quarantined` in the registry: TFX deletes what a failed node wrote.
    """
    gate = TypeAdapter(GateConfig).validate_json(config)
    before = Path(production.uri) / "statistics"
    given = (
        ("interactions", "train", statistics, schema, anomalies),
        ("catalog", "all", catalog_statistics, catalog_schema, catalog_anomalies),
    )
    sources = tuple(
        Source(
            dataset=name,
            split=split,
            statistics=Path(stats.uri),
            schema=Path(expected.uri),
            anomalies=Path(found.uri),
            previous=before / name,
        )
        for name, split, stats, expected, found in given
    )
    decided = decide(read_evidence(sources, Path(examples.uri), gate), gate)
    state = "pending" if decided.decision == "go" else "quarantined"
    registry = Registry(registry_url)
    try:
        registry.record_span(span, state, decided.to_json(), run=verdict.uri)
    finally:
        registry.close()
    if decided.decision == "stop":
        raise DataStopped(decided.stop_message(span))
    verdict.set_string_custom_property("decision", decided.decision)
    target = Path(verdict.uri)
    target.mkdir(parents=True, exist_ok=True)
    (target / "verdict.json").write_text(json.dumps(decided.to_json(), indent=2))
    log.info("span %d: go; %d checks passed", span, len(decided.checks))
