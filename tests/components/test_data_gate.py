"""DataGate: real statistics of small tables, one planted fault at a time, and the decision in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema

from components.artifacts import DataVerdict, Production
from components.data_gate.component import DataGate
from components.data_gate.config import GateConfig
from components.data_gate.decide import Drift, Evidence, decide
from components.errors import DataError, DataStopped
from serving.registry import Registry

ROWS = 200


def table(views: int = 150, hour: float = 9.0, device: str = "phone", users_from: int = 0) -> pd.DataFrame:
    """`views` of 200 interactions are views, the others likes; every user is there once."""
    return pd.DataFrame(
        {
            "user_id": [f"u{users_from + row}" for row in range(ROWS)],
            "interaction_types": ["view"] * views + ["like"] * (ROWS - views),
            "hour": [hour + row % 5 for row in range(ROWS)],
            "device": [device if row % 2 else "tablet" for row in range(ROWS)],
            "timestamps": [users_from * 1000 + row for row in range(ROWS)],
        }
    )


CATALOG = pd.DataFrame({"item_id": ["a", "b", "c"], "genre": ["x", "y", "x"], "popularity": [1.0, 2.0, 3.0]})
LAST_SPAN = table()


class Run:
    """One run up to the gate: statistics, schemas and anomalies as TFX's components lay them out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = Registry.at(root / "registry.sqlite")
        self.stats("production/statistics/interactions/Split-train", LAST_SPAN)
        self.stats("production/statistics/catalog/Split-all", CATALOG)
        self.summary({})

    def stats(self, place: str, frame: pd.DataFrame) -> Any:
        """Writes FeatureStats.pb, and returns the statistics."""
        statistics = tfdv.generate_statistics_from_dataframe(frame)
        self.put(f"{place}/FeatureStats.pb", statistics.SerializeToString())
        return statistics

    def summary(self, rejected: dict[str, int], rows_read: int = 1000, targets: int = 180) -> None:
        """Writes what InteractionExampleGen counts."""
        counted = {reason: {"count": count, "samples": []} for reason, count in rejected.items()}
        document = {"rows_read": rows_read, "rejected": counted, "train_targets": targets}
        self.put("examples/summary.json", json.dumps(document).encode())

    def gate(self, interactions: pd.DataFrame, catalog: pd.DataFrame = CATALOG, **config: Any) -> dict[str, Any]:
        """Runs the gate over span 6, judged against the schema of the last span, and returns its verdict.json."""
        for name, frame, before, splits in (
            ("", interactions, LAST_SPAN, ("train", "eval")),
            ("catalog_", catalog, CATALOG, ("all",)),
        ):
            schema = tfdv.infer_schema(tfdv.generate_statistics_from_dataframe(before))
            self.put(f"{name}schema/schema.pbtxt", text_format.MessageToString(schema).encode())
            for split in splits:
                statistics = self.stats(f"{name}statistics/Split-{split}", frame)
                diff = tfdv.validate_statistics(statistics, schema)
                self.put(f"{name}anomalies/Split-{split}/SchemaDiff.pb", diff.SerializeToString())
        inputs = {
            "statistics": ExampleStatistics(),
            "catalog_statistics": ExampleStatistics(),
            "schema": Schema(),
            "catalog_schema": Schema(),
            "anomalies": ExampleAnomalies(),
            "catalog_anomalies": ExampleAnomalies(),
            "examples": Examples(),
            "production": Production(),
            "verdict": DataVerdict(),
        }
        for name, artifact in inputs.items():
            artifact.uri = str(self.root / name)
        DataGate.test_call(**inputs, span=6, registry_url=self.registry.url, config=json.dumps(config))
        assert inputs["verdict"].get_string_custom_property("decision") == "go"
        return json.loads((self.root / "verdict/verdict.json").read_text())

    def put(self, place: str, content: bytes) -> None:
        """Writes one file below the run."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose production has learned LAST_SPAN."""
    return Run(tmp_path)


def sentence(verdict: dict[str, Any], name: str) -> str:
    """The sentence of the check of that name."""
    return {check["name"]: check["sentence"] for check in verdict["checks"]}[name]


def test_a_span_of_other_users_goes(run: Run) -> None:
    verdict = run.gate(table(views=130, users_from=5000))
    # share of views: 150/200 = .75 before, 130/200 = .65 now
    assert "interaction_types is 0.100 away" in sentence(verdict, "drift of interaction_types")
    names = {check["name"] for check in verdict["checks"]}
    assert names.isdisjoint({"drift of user_id", "drift of timestamps", "drift of item_id", "drift of popularity"})
    assert {"schema of interactions (eval)", "schema of catalog (all)", "drift of hour", "drift of genre"} <= names
    (record,) = run.registry.spans()
    assert (record.span, record.state, record.verdict) == (6, "pending", verdict)


def test_gross_drift_of_categories_stops_and_names_the_value(run: Run) -> None:
    with pytest.raises(DataStopped) as stopped:
        run.gate(table(views=60))
    # |60/200 − 150/200| = .45
    assert "interaction_types drifted 0.450 away from the last accepted span by L-infinity; 0.300 is allowed" in str(
        stopped.value
    )
    assert "'like'" in str(stopped.value) or "'view'" in str(stopped.value)
    assert str(stopped.value).count("\n") == 1


def test_gross_drift_of_numbers_stops(run: Run) -> None:
    with pytest.raises(DataStopped, match=r"hour drifted 1\.000 away .* by Jensen-Shannon"):
        run.gate(table(hour=100.0))  # 9-13 before, 100-104 now: nothing in common, so the divergence is 1


def test_a_value_outside_the_schema_stops_and_is_named_with_what_was_expected(run: Run) -> None:
    with pytest.raises(DataStopped, match="stopped by") as stopped:
        run.gate(table(device="fridge"), drift_features=["hour"])
    message = str(stopped.value)
    assert "device: Unexpected string values" in message
    assert "fridge" in message
    assert "one of phone, tablet" in message
    (record,) = run.registry.spans()
    assert (record.state, record.verdict["decision"]) == ("quarantined", "stop")
    assert not (run.root / "verdict").exists()


def test_a_fault_of_the_catalog_stops_too(run: Run) -> None:
    with pytest.raises(DataStopped, match=r"catalog \(all\): .*genre: Column dropped"):
        run.gate(table(), catalog=CATALOG.drop(columns="genre"))


def test_rejected_rows_and_too_few_targets_stop_with_their_figures(run: Run) -> None:
    run.summary({"no timestamp": 30, "no user": 12}, rows_read=1000, targets=4)
    with pytest.raises(DataStopped) as stopped:
        run.gate(table(), max_rejected_fraction=0.04, min_targets=5)
    assert "42 of 1000 rows rejected (4.20%); 4.00% is allowed (30 × no timestamp, 12 × no user)" in str(stopped.value)
    assert "4 interactions to learn from; at least 5 are needed" in str(stopped.value)


def test_the_first_run_has_nothing_to_drift_from(run: Run) -> None:
    (run.root / "production").rename(run.root / "elsewhere")
    (run.root / "examples/summary.json").unlink()
    verdict = run.gate(table(views=60, hour=100.0))
    assert [check["name"].split()[0] for check in verdict["checks"]] == ["schema"] * 3


def test_a_feature_that_no_schema_has_is_refused_with_the_known_ones(run: Run) -> None:
    with pytest.raises(DataError, match=r"\['gnre'\].*'genre'"):
        run.gate(table(), drift_features=["gnre"])


def test_a_figure_on_its_bound_passes_and_nan_does_not() -> None:
    def decision(value: float) -> str:
        drift = Drift("interactions", "hour", "Jensen-Shannon", value)
        return decide(Evidence(datasets=(), drifts=(drift,)), GateConfig(drift_jensen_shannon=0.25)).decision

    assert [decision(0.25), decision(0.2501), decision(math.nan)] == ["go", "stop", "stop"]
