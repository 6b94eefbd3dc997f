"""DataGate: judges the data of a run, go, warn or stop, and says why. It stops nothing itself: Admission does."""

import logging
from pathlib import Path

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema

from components.artifacts import DataVerdict, Production
from components.data_gate.config import GateConfig
from components.data_gate.decide import decide
from components.data_gate.page import write_verdict
from components.data_gate.read_evidence import Source, read_evidence
from components.data_gate.verdict import Override

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
    config: Parameter[str],
    overrides: Parameter[str],
    asked_at_seconds: Parameter[int],
) -> None:
    """Writes `verdict.json` and `verdict.html`.

    Args:
        span: the newest that the run reads.
        config: GateConfig as JSON.
        overrides: `{"5": {"who": …, "why": …}}`, the spans that a person accepted.
        asked_at_seconds: when the run began, since 1970; 0 where no bound of freshness is set, so that caches hold.
    """
    gate = TypeAdapter(GateConfig).validate_json(config)
    live = Path(production.uri)
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
            previous=live / "statistics" / name,
        )
        for name, split, stats, expected, found in given
    )
    evidence = read_evidence(sources, Path(examples.uri), live, gate, span=span, asked_at_seconds=asked_at_seconds)
    decided = decide(evidence, gate, TypeAdapter(dict[int, Override]).validate_json(overrides))
    write_verdict(decided, evidence.reasons, Path(verdict.uri))
    verdict.set_string_custom_property("decision", decided.decision)
    verdict.set_string_custom_property("reasons", "\n".join(decided.sentences("failed")))
    log.info("%s", decided)
