"""The report of runs written to a real ML Metadata store: what a reader would find on the page."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.places import Places
from pipeline.report import SECTIONS, write_report
from pipeline.runs import run, runs
from tests.page import Page

NODES = [
    *("InteractionExampleGen", "DataGate", "Admission", "Trainer", "IndexBuilder", "Evaluator", "ServableValidator"),
    "Pusher",
]
STATES = {"COMPLETE": pb.Execution.COMPLETE, "CACHED": pb.Execution.CACHED, "FAILED": pb.Execution.FAILED}

SUMMARY = {
    "spans_read": [3, 4],
    "spans_missing": [2],
    "rows_read": 12_345,
    "rows_accepted": 12_342,
    "rows_rejected": 3,
    "rejected": {
        "user is empty": {"count": 2, "samples": ["a.csv:7: user=None, item='<b>x</b>'", "a.csv:9: user=None"]},
        "item_id is not in the catalog": {"count": 1, "samples": ["b.csv:2: item='zz'"]},
    },
    "rows_per_span": {"3": 5_000, "4": 7_345},
    "undeclared_types": {"hover": 17},
    "users": 943,
    "items": 1_682,
    "items_admitted": 1_600,
    "items_rare": 70,
    "items_unseen": 12,
    "first_timestamp_seconds": 874_724_710,  # 1997-09-20 03:05:10 UTC
    "last_timestamp_seconds": 893_286_638,
    "eval_from_seconds": 892_000_000,
    "learned_until_seconds": 0,
    "train_examples": 900,
    "train_targets": 11_000,
    "train_replayed": 1_234,
    "eval_examples": 2_000,
    "errors": [],
}


def gate(decision: str, outcome: str, *sentences: str) -> dict[str, Any]:
    """A verdict of the data gate: all its checks had one outcome."""
    known = {"figure": 0.1, "warn": None, "stop": 0.2, "unit": "share", "at_least": False, "span": 4}
    checks = [{"name": "rows", "outcome": outcome, "sentence": sentence, **known} for sentence in sentences]
    reasons = list(sentences) if outcome == "failed" else []
    return {"decision": decision, "spans": {"4": "4"}, "accepted": [], "reasons": reasons, "checks": checks}


def row(part: str, metric: str, value: float, baseline: float | None, **more: Any) -> dict[str, Any]:
    half = 0.006
    known = {"slice": part, "metric": metric, "value": value, "low": value - half, "high": value + half}
    old = {"baseline": baseline, "baseline_low": None, "baseline_high": None}
    if baseline is not None:
        old |= {"baseline_low": baseline - half, "baseline_high": baseline + half}
    return {**known, **old, "popularity": None, "bound": None, "passed": None, **more}


def evaluation(is_blessed: bool, baseline_version: int | None = 1) -> dict[str, Any]:
    old = baseline_version is not None
    new = 0.09 if is_blessed else 0.05
    floor = {"bound": "≥ 0.06", "passed": is_blessed}
    return {
        "is_blessed": is_blessed,
        "baseline_version": baseline_version,
        "sentences": [
            "recall@10 is 0.120, 20% above the baseline" if is_blessed else "recall@10 of new users fell by 41%",
            "every floor holds" if is_blessed else "recall@10 over all users is within 1% of the baseline",
        ],
        "rows": [
            row("overall", "recall@10", 0.12, 0.1 if old else None, popularity=0.08, bound="≥ 0.05", passed=True),
            row("user=new", "recall@10", new, 0.085 if old else None, popularity=0.06, **floor),
            row("overall", "ndcg@10", 0.072, 0.066 if old else None, popularity=0.051),
            row("overall", "auc", 0.781, 0.776 if old else None),
        ],
        "examples": {"overall": 2_000, "user=new": 210},
    }


RELEASE = {"versions": {"tensorflow": "2.16.2", "scann": "1.3.2"}, "config_sha256": "ab12", "index": {"recall": 0.9965}}
CURVE = {
    "index": "portable, 9 of 160 leaves",
    "recall_of": 200,
    "queries": 1_000,
    "min_recall": 0.95,
    "why_not": ["scann: recall 0.9312 of the nearest 200 at most"],
    "tried": [
        {"index": "portable, 6 of 160 leaves", "recall": 0.94111, "p50_ms": 0.31, "is_chosen": False},
        {"index": "portable, 9 of 160 leaves", "recall": 0.96222, "p50_ms": 0.42, "is_chosen": True},
    ],
}
ANSWERED = {"name": "serving_default", "sentence": "serving_default answered 10 items in 3 ms", "passed": True}
SERVABLE = {"is_blessed": True, "reasons": [], "checks": [ANSWERED], "p50_ms": {"recommend": 2.5}}
LEDGER = {
    "vocabularies": {
        "items": {"stayed": 1_680, "came": 3, "left": 1},
        "genres": {"stayed": 18, "came": 2, "left": 0},
    },
    "sentences": ["warm start: 1,680 items stayed, 3 came, 1 left", "the optimizer's state came along"],
}
FILES: dict[str, tuple[str, str, Any]] = {
    "InteractionExampleGen": ("examples", "summary.json", SUMMARY),
    "DataGate": ("verdict", "verdict.json", gate("go", "passed", "7,345 rows, at least 1,000 expected")),
    "Trainer": ("model_run", "vocabulary_ledger.json", LEDGER),
    "IndexBuilder": ("servable", "assets.extra/release.json", RELEASE),
    "Evaluator": ("evaluation", "verdict.json", evaluation(True)),
    "ServableValidator": ("blessing", "report.json", SERVABLE),
    "Pusher": ("pushed_model", "pushed.json", {}),
}


class Recorder:
    """Writes runs as TFX does: contexts `pipeline_run` and `node`, an execution per node, its output artifact."""

    def __init__(self, home: Path) -> None:
        self.places = Places(home, "movielens")
        self.places.root.mkdir(parents=True)
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(self.places.metadata)
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = MetadataStore(config)
        self.execution_type = self.store.put_execution_type(pb.ExecutionType(name="component"))
        self.artifact_type = self.store.put_artifact_type(pb.ArtifactType(name="Thing"))

    def record(
        self,
        run_id: str,
        node_ids: list[str],
        *,
        failed: dict[str, str] | None = None,
        cached: tuple[str, ...] = (),
        files: dict[str, Any] | None = None,
        pushed: int = 1,
        why_not: str = "",
    ) -> None:
        failed = failed or {}
        contexts = self.context("pipeline_run", run_id)
        for node_id in node_ids:
            execution = pb.Execution(type_id=self.execution_type, last_known_state=pb.Execution.COMPLETE)
            pairs = []
            if node_id in failed:
                execution.last_known_state = pb.Execution.FAILED
                result = json.dumps({"resultMessage": failed[node_id], "code": 2})
                execution.custom_properties["__execution_result__"].string_value = result
            elif node_id in FILES:
                pairs = [self.output(run_id, node_id, (files or {}).get(node_id), pushed, why_not)]
            if node_id in cached:
                execution.last_known_state = pb.Execution.CACHED
            node = self.context("node", f"movielens.{node_id}")
            self.store.put_execution(execution, pairs, [*contexts, *node])

    def context(self, kind: str, name: str) -> list[pb.Context]:
        type_id = self.store.put_context_type(pb.ContextType(name=kind))
        known = self.store.get_context_by_type_and_name(kind, name)
        if known is None:
            self.store.put_contexts([pb.Context(type_id=type_id, name=name)])
        return [self.store.get_context_by_type_and_name(kind, name)]

    def output(
        self, run_id: str, node_id: str, content: Any, pushed: int, why_not: str
    ) -> tuple[pb.Artifact, pb.Event]:
        channel, name, usual = FILES[node_id]
        uri = self.places.artifacts / node_id / channel / run_id
        (uri / name).parent.mkdir(parents=True)
        (uri / name).write_text(json.dumps(usual if content is None else content))
        if node_id == "IndexBuilder":
            (uri / "assets.extra/index.json").write_text(json.dumps(CURVE))
            (uri / "assets.extra/index.png").write_bytes(b"a picture")
        artifact = pb.Artifact(type_id=self.artifact_type, uri=str(uri))
        if node_id == "Pusher":
            artifact.custom_properties["pushed"].int_value = pushed
            artifact.custom_properties["pushed_version"].string_value = "1795237069"
            artifact.custom_properties["why_not"].string_value = why_not
        event = pb.Event(type=pb.Event.OUTPUT)
        event.path.steps.add().key = channel
        event.path.steps.add().index = 0
        return artifact, event

    def page(self, run_id: str, expected: list[str] = NODES, config: str | None = None) -> "Page":
        path = write_report(self.places, run(self.places, run_id), expected, config)
        return Page(path)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "home")


def test_a_pushed_run_says_its_version_and_shows_every_section(recorder: Recorder) -> None:
    recorder.record("2026-11-21T04:57:49.468851", NODES)
    page = recorder.page("2026-11-21T04:57:49.468851", config='{"top_k": 10}')
    assert page.verdict == "Pushed as version 1795237069"
    assert page.found["h2"] == [
        "Metrics",
        "Data",
        "Data gate",
        "Start of training",
        "Servable check",
        "Index",
        "Time",
        "Release",
        "Artifacts",
        "Configuration",
    ]
    assert len(SECTIONS) == len(page.found["h2"])
    assert page.path == recorder.places.reports / "2026-11-21T04-57-49.468851" / "index.html"
    for told in (
        "12,345",
        "1997-09-20 03:05 UTC",
        "Missing spans: 2.",
        "hover (17)",
        "2 × user is empty",
        "b.csv:2: item='zz'",
        "7,345 rows, at least 1,000 expected",
        "p50_ms.recommend 2.5",
        "every floor holds",
        "the optimizer's state came along",
        "1,600 of the catalog's 1,682 items are admitted: 70 have too few interactions, 12 were not seen for too long",
        "1,234 interactions that were learned before are learned once more, beside 11,000 new ones",
        "items 1,680 3 1 genres 18 2 0",  # stayed, came, left
        "210 examples",
        "+20.0%",  # 0.12 against 0.1
        "0.1140 – 0.1260",
        "serving_default answered 10 items",
        "index.recall 0.9965",
        "on 1,000 queries of the eval split; the bar is a recall of 0.95 of the true nearest 200",
        "scann: recall 0.9312 of the nearest 200 at most",
        "portable, 9 of 160 leaves 0.9622 0.420",
        '"top_k": 10',
    ):
        assert told in page.text
    assert f"data:image/png;base64,{base64.b64encode(b'a picture').decode()}" in page.path.read_text()
    assert (recorder.places.artifacts / "Pusher/pushed_model/2026-11-21T04:57:49.468851").as_uri() in page.links


def test_what_users_wrote_is_escaped(recorder: Recorder) -> None:
    recorder.record("r", NODES)
    page = recorder.page("r")
    assert "item='<b>x</b>'" in page.text
    assert "item='<b>" not in page.path.read_text()


def test_intervals_stand_where_their_figures_are(recorder: Recorder) -> None:
    recorder.record("r", NODES)
    circles = [circle for circle in recorder.page("r").found["circle"] if str(circle["cx"]).endswith("%")]
    baseline, overall, new_users = [float(circle["cx"].rstrip("%")) for circle in circles[:2] + circles[3:4]]
    # Rows draw the baseline, then the new model. The axis of recall@10 is 0 … 1.08 × its highest figure, 0.126.
    assert (baseline, overall) == pytest.approx((100 * 0.1 / 0.13608, 100 * 0.12 / 0.13608), abs=0.01)
    assert new_users == pytest.approx(100 * 0.09 / 0.13608, abs=0.01)
    assert all(0 <= float(circle["cx"].rstrip("%")) <= 100 for circle in circles)


def test_a_rejected_run_says_why(recorder: Recorder) -> None:
    recorder.record("r", NODES, files={"Evaluator": evaluation(False)}, pushed=0)
    page = recorder.page("r")
    assert page.verdict == "Rejected: recall@10 of new users fell by 41%"
    assert "within 1% of the baseline" in page.text
    assert "✗ ≥ 0.06" in page.text


def test_a_servable_that_failed_its_check_is_named(recorder: Recorder) -> None:
    why = "an unknown user got no items"
    checks = [ANSWERED, {"name": "unknown user", "sentence": why, "passed": False}]
    report = {"is_blessed": False, "reasons": [why], "checks": checks, "p50_ms": {}}
    recorder.record("r", NODES, files={"ServableValidator": report}, pushed=0)
    assert recorder.page("r").verdict == "Rejected by the servable's check: an unknown user got no items"


def test_what_a_person_took_out_before_is_not_pushed_and_the_page_says_so(recorder: Recorder) -> None:
    why = "this is version 200 once more, which bob took out as bad: clicks fell"
    recorder.record("r", NODES, pushed=0, why_not=why)
    assert recorder.page("r").verdict == f"Not pushed: {why}"
    recorder.record("s", NODES, pushed=0)
    assert recorder.page("s").verdict == "Complete, and nothing was pushed"


def test_the_first_model_has_no_baseline(recorder: Recorder) -> None:
    recorder.record("r", NODES, files={"Evaluator": evaluation(True, baseline_version=None)})
    assert "there is no baseline yet" in recorder.page("r").text


def test_the_gate_that_stopped_a_run_is_quoted(recorder: Recorder) -> None:
    reasons = ["genre drifted by 0.41, at most 0.10", "half of the items are unknown"]
    said = {"DataGate": gate("stop", "failed", *reasons)}
    recorder.record("spoiled", NODES[:3], failed={"Admission": "DataStopped: 2 reasons"}, files=said)
    page = recorder.page("spoiled")
    assert page.verdict == f"Stopped by the data gate: {reasons[0]}"
    assert reasons[1] in page.text
    assert page.found["h2"] == ["Data", "Data gate", "Time", "Artifacts"]
    assert page.found["h3"][-1] == "Failed"
    assert "Evaluator did not run" in page.text


def test_an_admission_that_broke_is_no_verdict(recorder: Recorder) -> None:
    said = {"DataGate": gate("warn", "failed", "accepted all the same")}
    recorder.record("r", NODES[:3], failed={"Admission": "RegistryError: no answer"}, files=said)
    assert recorder.page("r").verdict == "Failed in Admission: RegistryError: no answer"


def test_too_many_rejected_rows_stop_a_run_in_words(recorder: Recorder) -> None:
    lines = "DataStopped: 30 of 100 rows rejected:\n  30 × no user"
    recorder.record("r", NODES[:1], failed={"InteractionExampleGen": lines})
    page = recorder.page("r")
    assert page.verdict == "Stopped in InteractionExampleGen: 30 of 100 rows rejected:"
    assert "30 × no user" in page.text


def test_a_failed_node_is_named_with_its_error(recorder: Recorder) -> None:
    recorder.record("r", NODES[:4], failed={"Trainer": "ValueError: no items to learn"})
    assert recorder.page("r").verdict == "Failed in Trainer: ValueError: no items to learn"


def test_a_node_that_never_ran_is_not_passed_over(recorder: Recorder) -> None:
    recorder.record("r", NODES[:4])
    assert recorder.page("r").verdict == "Incomplete: IndexBuilder, Evaluator, ServableValidator, Pusher never ran"


def test_a_run_from_the_cache_claims_no_new_push(recorder: Recorder) -> None:
    recorder.record("r", NODES, cached=tuple(NODES))
    assert recorder.page("r").verdict.startswith("Nothing new: version 1795237069")


def test_a_figure_that_could_not_be_computed_is_a_dash(recorder: Recorder) -> None:
    verdict = evaluation(True)
    verdict["rows"].append(row("overall", "log_loss", float("nan"), 0.4))
    recorder.record("r", NODES, files={"Evaluator": verdict})
    page = recorder.page("r")
    assert "log_loss" in page.found["h3"]
    assert "nan" not in page.path.read_text().lower()


def test_a_report_can_be_written_when_the_files_are_gone(recorder: Recorder) -> None:
    recorder.record("r", NODES)
    for file in recorder.places.artifacts.rglob("*.json"):
        file.unlink()
    page = recorder.page("r")
    assert page.found["h2"] == ["Time", "Artifacts"]


def test_a_run_id_cannot_leave_the_reports(recorder: Recorder) -> None:
    recorder.record("../../r", NODES[:1])
    assert recorder.page("../../r").path.parent.parent == recorder.places.reports
    assert len(runs(recorder.places)) == 1
