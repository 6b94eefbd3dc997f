"""Reads what the nodes before the gate wrote, and measures drift against the statistics in production.

Read are `Split-<name>/SchemaDiff.pb` (ExampleValidator), `Split-<name>/FeatureStats.pb` (StatisticsGen),
`schema.pbtxt`, `summary.json` (InteractionExampleGen), and of production `statistics/` and `state/lineage.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data_gate.config import GateConfig
from components.data_gate.describe import describe_feature
from components.data_gate.evidence import Anomaly, Drift, Evidence, Reason, SpanFigures
from components.data_gate.measure_drift import measure_drift
from components.errors import DataError

if TYPE_CHECKING:  # TFDV takes seconds to import, and only a gate that runs needs it
    from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList


@dataclass(frozen=True, kw_only=True)
class Source:
    """The folders of one data set; `split` is the one whose drift is measured, `previous` may not exist."""

    dataset: str
    split: str
    statistics: Path
    schema: Path
    anomalies: Path
    previous: Path


def read_evidence(
    sources: tuple[Source, ...],
    examples: Path,
    production: Path,
    config: GateConfig,
    *,
    span: int,
    asked_at_seconds: int,
) -> Evidence:
    """All that the gate judges. What production does not have before the first push asks no question.

    Raises DataError when a file is missing or unreadable, or `config.drift_features` names an unknown feature.
    """
    datasets: list[str] = []
    anomalies: list[Anomaly] = []
    drifts: list[Drift] = []
    features: set[str] = set()
    for source in sources:
        schema = _read_schema(source.schema)
        features |= {feature.name for feature in schema.feature}
        for folder in _splits(source.anomalies):
            name = f"{source.dataset} ({folder.name.removeprefix('Split-')})"
            datasets.append(name)
            anomalies += _anomalies(name, _read_anomalies(folder / "SchemaDiff.pb"), schema)
        file_name = f"Split-{source.split}/FeatureStats.pb"
        if (source.previous / file_name).is_file():
            now, before = (read_statistics(root / file_name) for root in (source.statistics, source.previous))
            drifts += measure_drift(source.dataset, schema, now, before, config)
    if unknown := sorted(set(config.drift_features or ()) - features):
        raise DataError(
            f"drift_features names {unknown}, which no schema has; known: {sorted(features)}. Correct the gate's config"
        )
    summary = _json(examples / "summary.json")
    lineage = production / "state" / "lineage.json"
    accepted = _json(lineage) if lineage.is_file() else {"spans": {}}
    try:
        known = _figures(summary["figures"])
        return Evidence(
            span=span,
            datasets=tuple(datasets),
            anomalies=tuple(anomalies),
            drifts=tuple(drifts),
            learned={number: known.get(number, SpanFigures()) for number in map(int, summary["spans_learned"])},
            accepted=_figures(accepted["spans"]),
            reasons=tuple(_reason(words, found) for words, found in summary["rejected"].items()),
            labels={int(number): label for number, label in summary.get("labels", {}).items()},
            targets=summary["train_targets"],
            users_learned=summary["users_learned"],
            users_new=summary["users_new"],
            asked_at_seconds=asked_at_seconds,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{examples / 'summary.json'} or {lineage} is not what InteractionExampleGen writes ({error!r}); "
            "run it again with this release"
        ) from error


def read_statistics(path: Path) -> DatasetFeatureStatisticsList:
    """The statistics of one split, as StatisticsGen writes them."""
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

    return DatasetFeatureStatisticsList.FromString(_bytes(path))


def _read_schema(folder: Path) -> Schema:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

    return text_format.Parse(_bytes(folder / "schema.pbtxt").decode(), Schema())


def _read_anomalies(path: Path) -> Anomalies:
    from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies

    return Anomalies.FromString(_bytes(path))


def _anomalies(dataset: str, found: Anomalies, schema: Schema) -> list[Anomaly]:
    features = {feature.name: feature for feature in schema.feature}
    entries = sorted(found.anomaly_info.items())
    if found.HasField("dataset_anomaly_info"):
        entries.append(("all features", found.dataset_anomaly_info))
    anomalies = [
        Anomaly(
            dataset,
            name,
            info.short_description,
            info.description.strip().rstrip("."),
            describe_feature(schema, features[name]) if name in features else "what the schema says",
            is_error=info.severity != info.WARNING,
        )
        for name, info in entries
    ]
    if found.data_missing:
        anomalies.append(Anomaly(dataset, "all features", "no data", "no example", "at least one example"))
    return anomalies


def _json(path: Path) -> Any:
    try:
        return json.loads(_bytes(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run the node that writes it again") from error


def _figures(spans: Mapping[str, Mapping[str, Any]]) -> dict[int, SpanFigures]:
    names = {field.name for field in fields(SpanFigures)}
    return {
        int(span): SpanFigures(**{name: figure for name, figure in found.items() if name in names})
        for span, found in spans.items()
    }


def _reason(words: str, found: Mapping[str, Any]) -> Reason:
    return Reason(words=words, count=int(found["count"]), samples=tuple(found["samples"]), figure=found.get("figure"))


def _splits(folder: Path) -> list[Path]:
    found = sorted(folder.glob("Split-*"))
    if not found:
        raise DataError(f"{folder} has no Split-* folder; expected what ExampleValidator writes")
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"the gate cannot read {path}: {error.strerror}; run the node that writes it") from error
