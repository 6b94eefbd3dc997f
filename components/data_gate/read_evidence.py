"""Reads what the nodes before the gate wrote, and measures drift against the statistics in production.

Read are `Split-<name>/SchemaDiff.pb` (ExampleValidator), `Split-<name>/FeatureStats.pb` (StatisticsGen),
`schema.pbtxt`, `summary.json` (InteractionExampleGen) and `statistics/` below the production artifact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.data_gate.config import GateConfig
from components.data_gate.decide import Anomaly, Drift, Evidence
from components.data_gate.describe import describe_feature
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


def read_evidence(sources: tuple[Source, ...], examples: Path, config: GateConfig) -> Evidence:
    """All that the gate judges. A missing `summary.json` or missing previous statistics ask no question.

    Raises DataError when another file is missing or unreadable, or `config.drift_features` names an unknown one.
    """
    datasets: list[str] = []
    anomalies: list[Anomaly] = []
    drifts: list[Drift] = []
    known: set[str] = set()
    for source in sources:
        schema = _read_schema(source.schema)
        known |= {feature.name for feature in schema.feature}
        for folder in _splits(source.anomalies):
            name = f"{source.dataset} ({folder.name.removeprefix('Split-')})"
            datasets.append(name)
            anomalies += _anomalies(name, _read_anomalies(folder / "SchemaDiff.pb"), schema)
        file_name = f"Split-{source.split}/FeatureStats.pb"
        if (source.previous / file_name).is_file():
            now, before = (read_statistics(root / file_name) for root in (source.statistics, source.previous))
            drifts += measure_drift(source.dataset, schema, now, before, config)
    if unknown := sorted(set(config.drift_features or ()) - known):
        raise DataError(
            f"drift_features names {unknown}, which no schema has; known: {sorted(known)}. Correct the gate's config"
        )
    read, rejected, targets = _read_summary(examples / "summary.json")
    return Evidence(
        datasets=tuple(datasets),
        anomalies=tuple(anomalies),
        drifts=tuple(drifts),
        rows_read=read,
        rows_rejected=rejected,
        targets=targets,
    )


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


def _read_summary(path: Path) -> tuple[int | None, dict[str, int] | None, int | None]:
    if not path.is_file():
        return None, None, None
    try:
        summary = json.loads(path.read_text())
        rejected = {reason: int(found["count"]) for reason, found in summary["rejected"].items()}
        return int(summary["rows_read"]), rejected, int(summary["train_targets"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a summary of the examples ({error!r}); expected rows_read, train_targets and "
            "rejected as {reason: {count}}"
        ) from error


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
