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
from pydantic import TypeAdapter, ValidationError
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema

from components.artifacts import DataVerdict, Production
from components.data_gate.component import DataGate
from components.data_gate.config import GateConfig, Threshold
from components.data_gate.decide import decide
from components.data_gate.evidence import Anomaly, Drift, Evidence, Reason, SpanFigures
from components.data_gate.page import section
from components.data_gate.verdict import Check, Override, Verdict
from components.errors import DataError
from tests.page import Page

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


SOUND = {"rows_read": 1000, "rows_accepted": 1000, "rows_rejected": 0, "types": {"view": 750, "like": 250}}
HOUR = 3600


class Run:
    """One run up to the gate: statistics, schemas and anomalies as TFX's components lay them out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stats("production/statistics/interactions/Split-train", LAST_SPAN)
        self.stats("production/statistics/catalog/Split-all", CATALOG)
        self.summary({"6": SOUND})
        self.lineage({str(span): SOUND for span in (2, 3, 4, 5)})

    def stats(self, place: str, frame: pd.DataFrame) -> Any:
        """Writes FeatureStats.pb, and returns the statistics."""
        statistics = tfdv.generate_statistics_from_dataframe(frame)
        self.put(f"{place}/FeatureStats.pb", statistics.SerializeToString())
        return statistics

    def summary(self, figures: dict[str, Any], rejected: dict[str, Any] | None = None, **more: Any) -> None:
        """Writes what InteractionExampleGen counts; the spans with figures are learned."""
        document = {"spans_learned": [int(span) for span in figures], "figures": figures, "rejected": rejected or {}}
        document |= {"train_targets": 180, "users_learned": 200, "users_new": 20} | more
        self.put("examples/summary.json", json.dumps(document).encode())

    def lineage(self, spans: dict[str, Any]) -> None:
        """Writes what production has learned."""
        document = {"spans": spans, "learned_until_seconds": 9, "reads_as": "ab12"}
        self.put("production/state/lineage.json", json.dumps(document).encode())

    def gate(
        self,
        interactions: pd.DataFrame,
        catalog: pd.DataFrame = CATALOG,
        overrides: str = "{}",
        asked_at_seconds: int = 0,
        **config: Any,
    ) -> dict[str, Any]:
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
        told = {"overrides": overrides, "asked_at_seconds": asked_at_seconds, "config": json.dumps(config)}
        DataGate.test_call(**inputs, span=6, **told)
        verdict = json.loads((self.root / "verdict/verdict.json").read_text())
        assert inputs["verdict"].get_string_custom_property("decision") == verdict["decision"]
        return verdict

    def put(self, place: str, content: bytes) -> None:
        """Writes one file below the run."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run for span 6, whose production has learned the spans 2 to 5 and LAST_SPAN's statistics."""
    return Run(tmp_path)


def sentence(verdict: dict[str, Any], name: str) -> str:
    """The sentence of the check of that name."""
    return {check["name"]: check["sentence"] for check in verdict["checks"]}[name]


def test_a_span_of_other_users_goes(run: Run) -> None:
    verdict = run.gate(table(views=130, users_from=5000))
    assert (verdict["decision"], verdict["reasons"], verdict["warnings"]) == ("go", [], [])
    # share of views: 150/200 = .75 before, 130/200 = .65 now
    assert "interaction_types is 0.100 away" in sentence(verdict, "drift of interaction_types")
    names = {check["name"] for check in verdict["checks"]}
    assert names.isdisjoint({"drift of user_id", "drift of timestamps", "drift of item_id", "drift of popularity"})
    assert {"schema of interactions (eval)", "schema of catalog (all)", "drift of hour", "drift of genre"} <= names
    assert {"too few rows", "rejected rows", "label balance", "new users", "targets"} <= names
    assert "freshness" not in names


def test_gross_drift_of_categories_stops_and_names_the_value(run: Run) -> None:
    verdict = run.gate(table(views=60))
    assert (verdict["decision"], verdict["quarantined"]) == ("stop", [6])
    (reason,) = verdict["reasons"]
    # |60/200 − 150/200| = .45
    assert "interaction_types drifted 0.450 away from the last accepted span by L-infinity; 0.300 is allowed" in reason
    assert "most of all the value 'like'" in reason or "most of all the value 'view'" in reason


def test_drift_that_is_not_gross_warns(run: Run) -> None:
    verdict = run.gate(table(views=100))  # |100/200 − 150/200| = .25
    assert (verdict["decision"], verdict["reasons"], verdict["quarantined"]) == ("warn", [], [])
    (warning,) = verdict["warnings"]
    assert "drifted 0.250 away from the last accepted span by L-infinity; 0.200 is usual, 0.300 is allowed" in warning
    assert "most of all the value" in warning


def test_gross_drift_of_numbers_stops(run: Run) -> None:
    (reason,) = run.gate(table(hour=100.0))["reasons"]
    # 9-13 before, 100-104 now: nothing in common, so the divergence is 1
    assert "hour drifted 1.000 away from the last accepted span by Jensen-Shannon" in reason


def test_a_value_outside_the_schema_stops_and_is_named_with_what_was_expected(run: Run) -> None:
    verdict = run.gate(table(device="fridge"), drift_features=["hour"])
    assert verdict["decision"] == "stop"
    for reason in verdict["reasons"]:  # of train and of eval
        assert "device: Unexpected string values" in reason
        assert "fridge" in reason
        assert "one of phone, tablet" in reason


def test_a_fault_of_the_catalog_stops_too(run: Run) -> None:
    (reason,) = run.gate(table(), catalog=CATALOG.drop(columns="genre"))["reasons"]
    assert reason.startswith("catalog (all): 1 anomalies against the schema. genre: Column dropped")


def test_the_first_run_has_nothing_to_compare_with(run: Run) -> None:
    (run.root / "production").rename(run.root / "elsewhere")
    run.summary({"6": {"rows_read": 1000}}, users_learned=10, users_new=10)
    verdict = run.gate(table(views=60, hour=100.0))
    assert verdict["decision"] == "go"
    assert [check["name"].split()[0] for check in verdict["checks"]] == ["schema"] * 3 + ["targets"]


def test_a_feature_that_no_schema_has_is_refused_with_the_known_ones(run: Run) -> None:
    with pytest.raises(DataError, match=r"\['gnre'\].*'genre'"):
        run.gate(table(), drift_features=["gnre"])


def test_a_summary_of_something_else_is_refused(run: Run) -> None:
    run.put("examples/summary.json", b'{"rows": 3}')
    with pytest.raises(DataError, match=r"summary.json or .*lineage.json is not what InteractionExampleGen writes"):
        run.gate(table())


def test_an_override_turns_a_stop_into_a_warning_and_hides_nothing(run: Run) -> None:
    verdict = run.gate(
        table(views=60), overrides='{"6": {"who": "ann", "why": "a sale"}, "3": {"who": "b", "why": "c"}}'
    )
    assert (verdict["decision"], verdict["quarantined"]) == ("warn", [])
    assert verdict["accepted"] == ["span 6 was accepted by ann, although checks failed: a sale"]
    assert [check["outcome"] for check in verdict["checks"]].count("failed") == 1
    assert verdict["overrides"] == {"6": {"who": "ann", "why": "a sale"}}  # span 3 is not learned here
    page = Page(run.root / "verdict/verdict.html")
    assert page.text.index("span 6 was accepted by ann") < page.text.index("Failed")


def test_the_page_of_a_bad_span_tells_failures_first(run: Run) -> None:
    bad = {**SOUND, "rows_read": 300, "rows_rejected": 30, "rows_accepted": 270}
    samples = ["spans/6/a.csv:7: timestamp='<b>soon</b>'", "spans/6/a.csv:9: timestamp=None"]
    run.summary({"6": bad}, {"timestamp is not a number": {"count": 30, "samples": samples}})
    run.gate(table(views=60))
    page = Page(run.root / "verdict/verdict.html")
    # 300 of a usual 1,000 rows is less than half; drift, and 30 of 300 rejected, fail; the rest passes
    assert page.verdict.startswith("2 of ")
    assert page.verdict.endswith("checks failed, 1 warned")
    assert page.found["h3"] == ["Failed", "Warned", "Passed"]
    assert "span 6: 30 of 300 rows rejected (10.00%); 1.00% is allowed" in page.text
    assert "timestamp='<b>soon</b>'" in page.text  # escaped, or the parser would have met a tag
    assert "Quarantined, and left out by later runs: span 6" in page.text
    assert (run.root / "verdict/verdict.html").read_text().startswith("<!doctype html>")


def test_the_page_of_a_good_span_is_green(run: Run) -> None:
    run.gate(table())
    page = Page(run.root / "verdict/verdict.html")
    assert page.verdict.startswith("All ")
    assert page.found["h3"] == ["Passed"]
    assert '<header class="go">' in (run.root / "verdict/verdict.html").read_text()


def test_a_gauge_shows_figure_and_bounds_on_one_axis() -> None:
    check = Check(name="x", outcome="failed", sentence="", figure=0.4, warn=0.1, stop=0.2)
    html = str(section(Verdict(span=1, spans={1: "1"}, checks=(check,)).to_json()))
    for value in (0.4, 0.1, 0.2):  # of an axis from 0 to 1.15 × the largest
        assert f'="{round(100 * value / (1.15 * 0.4), 2)}%"' in html
    assert "usual ≤ 10.00%, allowed ≤ 20.00%" in html


# What decides, without files: `judged` is the run for span 6 with the figures of its spans.


def judged(
    learned: dict[int, dict[str, Any]],
    accepted: dict[int, dict[str, Any]] | None = None,
    config: GateConfig | None = None,
    overrides: dict[int, Override] | None = None,
    **more: Any,
) -> Verdict:
    evidence = Evidence(
        span=6,
        learned={span: SpanFigures(**figures) for span, figures in learned.items()},
        accepted={span: SpanFigures(**figures) for span, figures in (accepted or {}).items()},
        **more,
    )
    return decide(evidence, config or GateConfig(), overrides)


FAULTS = [  # the check, its figures, the decision, what the sentence says
    ("rows of unknown items", {"rows_read": 1000, "rows_unknown_item": 200}, "warn",
     "span 6: 200 of 1,000 rows are of items that are not in the catalog (20.00%); 2.00% is usual, 20.00% is allowed"),
    ("rows of unknown items", {"rows_read": 1000, "rows_unknown_item": 201}, "stop", "(20.10%); 20.00% is allowed"),
    ("rows in the future", {"rows_read": 1000, "rows_in_future": 1}, "warn",
     "1 of 1,000 rows have a timestamp later than their file (0.10%); none is usual, 1.00% is allowed"),
    ("rows in the future", {"rows_read": 1000, "rows_in_future": 11}, "stop", "(1.10%); 1.00% is allowed"),
    ("duplicated rows", {"rows_read": 1000, "rows_duplicated": 60}, "warn",
     "60 of 1,000 rows repeat an earlier one (6.00%); 5.00% is usual, 30.00% is allowed"),
    ("duplicated rows", {"rows_read": 1000, "rows_duplicated": 301}, "stop", "(30.10%); 30.00% is allowed"),
    ("rows out of the span", {"rows_accepted": 500, "rows_out_of_span": 1}, "warn",
     "1 of 500 accepted rows are not within its date (0.20%)"),
    ("rows out of the span", {"rows_accepted": 500, "rows_out_of_span": 26}, "stop", "(5.20%); 5.00% is allowed"),
    ("late rows", {"rows_accepted": 500, "rows_late": 500}, "warn",
     "500 of 500 accepted rows are older than the newest event of the spans before (100.00%); 10.00% is usual"),
    ("rejected rows", {"rows_read": 1000, "rows_rejected": 11}, "stop",
     "11 of 1,000 rows rejected (1.10%); 1.00% is allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "figures", "decision", "words"), FAULTS)
def test_a_share_of_bad_rows_warns_and_then_stops(
    name: str, figures: dict[str, int], decision: str, words: str
) -> None:
    verdict = judged({6: figures})
    (check,) = (check for check in verdict.checks if check.name == name)
    assert (verdict.decision, check.span) == (decision, 6)
    assert check.sentence.startswith("span 6: ")
    assert words in check.sentence
    assert not {other.name for other in verdict.checks if other.outcome != "passed"} - {name}


def test_a_span_without_figures_is_asked_nothing() -> None:
    assert judged({6: {}}).checks == ()
    assert judged({6: {"rows_read": 0, "rows_rejected": 0, "rows_accepted": 0, "rows_late": 0}}).checks == ()


def test_no_row_is_judged_twice() -> None:
    figures = {"rows_read": 1000, "rows_rejected": 165, "rows_unknown_item": 150, "rows_in_future": 5}
    reasons = (
        Reason(words="no user", count=3, samples=("a.csv:2: user=''", "a.csv:5: user=''")),
        Reason(words="no time", count=7),
        Reason(
            words="item is not in the catalog", count=150, samples=("a.csv:9: item='zz'",), figure="rows_unknown_item"
        ),
    )
    verdict = judged({6: figures}, reasons=reasons)
    known = {check.name: check for check in verdict.checks}
    # 165 − 150 − 5 = 10 of 1,000, which is just allowed
    assert known["rejected rows"].sentence == "span 6: 10 of 1,000 rows rejected (1.00%); 1.00% is allowed"
    assert known["rows of unknown items"].sentence.endswith(
        "20.00% is allowed: 150 × item is not in the catalog, such as a.csv:9: item='zz'"
    )
    one_more = judged({6: {**figures, "rows_rejected": 166}}, reasons=reasons)
    (check,) = (check for check in one_more.checks if check.name == "rejected rows")
    assert check.sentence.endswith("1.00% is allowed: 7 × no time; 3 × no user, such as a.csv:2: user=''")


def test_volume_is_held_against_the_median_of_the_spans_before() -> None:
    # median of 80, 100, 120 (accepted) is 100; of span 5 too: 100; the later span 7 says nothing of 6
    accepted = {2: {"rows_read": 80}, 3: {"rows_read": 100}, 4: {"rows_read": 120}, 7: {"rows_read": 9000}}

    def outcomes(rows: int) -> list[str]:
        verdict = judged({6: {"rows_read": rows}, 5: {"rows_read": 100}}, accepted)
        return [check.outcome for check in verdict.checks if check.span == 6]

    # too few: warn below 50, stop below 10; too many: warn beyond 300, stop beyond 1,000
    assert [outcomes(rows) for rows in (9, 10, 50, 300, 301, 1001)] == [
        ["failed", "passed"],
        ["warned", "passed"],
        ["passed", "passed"],
        ["passed", "passed"],
        ["passed", "warned"],
        ["passed", "failed"],
    ]
    verdict = judged({6: {"rows_read": 9}}, accepted)
    (reason,) = verdict.sentences("failed")
    assert reason == ("span 6: 9 rows, 9.00% of the median of the 3 spans before it (100); at least 10.00% is needed")


def test_only_the_last_spans_say_what_is_usual_and_two_do_not() -> None:
    accepted = {1: {"rows_read": 10_000}, 2: {"rows_read": 10}, 3: {"rows_read": 9_000}, 4: {"rows_read": 10}}
    # the median of the last three is 10; of all four 4,505, of the first three 9,000
    assert judged({6: {"rows_read": 10}}, accepted, GateConfig(volume_spans=3)).decision == "go"
    assert judged({6: {"rows_read": 10}}, accepted, GateConfig(volume_spans=4)).decision == "stop"
    assert judged({6: {"rows_read": 10}}, {1: {"rows_read": 999}, 2: {"rows_read": 999}}).checks == ()


def test_label_balance_is_held_against_the_last_accepted_span() -> None:
    accepted = {4: {"types": {"view": 1}}, 5: {"types": {"view": 80, "buy": 20}}}
    # buy: 20% before, 55% of 200 now
    verdict = judged({6: {"types": {"view": 90, "buy": 110}}}, accepted)
    (reason,) = verdict.sentences("failed")
    assert reason == (
        "span 6: 'buy' is 55.00% of the accepted rows, and was 20.00% in span 5, the last accepted; "
        "a change of 35.00%; 30.00% is allowed"
    )
    assert judged({6: {"types": {"view": 90, "gone": 10}}}, accepted).decision == "warn"  # buy: 20% → 0%
    assert judged({5: {"types": {"buy": 1}}}, {5: {"types": {"view": 1}}}).checks == ()  # a corrected span is no other


def test_freshness_is_asked_only_with_a_bound_and_a_time() -> None:
    config, day = GateConfig(max_staleness_hours=24), 1_700_000_000
    learned = {5: {"last_timestamp_seconds": day}, 6: {"last_timestamp_seconds": day - HOUR}}
    assert judged(learned, asked_at_seconds=day + 99 * HOUR).checks == ()
    assert judged(learned, config=config).checks == ()
    assert judged(learned, config=config, asked_at_seconds=day + 24 * HOUR).decision == "go"
    verdict = judged(learned, config=config, asked_at_seconds=day + 25 * HOUR)
    assert verdict.sentences("failed") == [
        "the newest event was 25.0 hours old as the run began (2023-11-14 22:13 UTC); 24.0 h is allowed"
    ]
    assert verdict.quarantined == [5, 6]


def test_new_users_and_targets() -> None:
    more = {"users_learned": 200, "users_new": 199}
    assert judged({6: {}}, **more).checks == ()  # the first run
    verdict = judged({6: {}}, {5: {}}, **more)
    assert verdict.sentences("warned") == ["199 of 200 users have no history (99.50%); 98.00% is usual"]
    assert judged({6: {}}, targets=0).sentences("failed") == ["0 interactions to learn from; at least 1 is needed"]


def test_a_stop_names_exactly_the_spans_that_are_bad() -> None:
    bad, good = {"rows_read": 10, "rows_rejected": 9}, {"rows_read": 10, "rows_rejected": 0}
    assert judged({4: good, 5: bad, 6: good}).quarantined == [5]
    assert judged({4: bad, 5: good, 6: bad}).quarantined == [4, 6]
    assert judged({4: good, 6: bad}, targets=0).quarantined == [4, 6]
    assert judged({4: good, 6: good}).quarantined == []


def test_an_override_counts_for_its_span_and_of_the_newest_for_the_run() -> None:
    bad = {"rows_read": 10, "rows_rejected": 9}
    ann = Override(who="ann", why="known")
    assert judged({5: bad, 6: bad}, overrides={5: ann}).quarantined == [6]
    assert judged({5: bad, 6: {}}, overrides={5: ann}).decision == "warn"
    assert judged({5: {}, 6: {}}, targets=0, overrides={5: ann}).quarantined == [5, 6]
    assert judged({5: {}, 6: {}}, targets=0, overrides={6: ann}).decision == "warn"
    assert judged({6: {}}, overrides={6: ann}).decision == "go"  # nothing failed: nobody need have accepted it


def test_spans_are_called_as_people_call_them() -> None:
    verdict = judged({6: {"rows_read": 10, "rows_rejected": 9}}, labels={6: "2011-12-09"})
    assert verdict.sentences("failed")[0].startswith("span 2011-12-09: 9 of 10 rows rejected")
    assert verdict.to_json()["spans"] == {"6": "2011-12-09"}


def test_a_warning_of_the_schema_warns() -> None:
    anomaly = Anomaly("interactions", "hour", "new", "hour is new", "what the schema says", is_error=False)
    verdict = judged({6: {}}, datasets=("interactions", "catalog"), anomalies=(anomaly,))
    assert [check.outcome for check in verdict.checks] == ["warned", "passed"]


def test_a_figure_on_its_bound_passes_and_nan_does_not() -> None:
    def decision(value: float) -> str:
        drift = Drift("interactions", "hour", "Jensen-Shannon", value)
        return judged({}, drifts=(drift,), config=GateConfig(drift_jensen_shannon=0.25)).decision

    assert [decision(0.25), decision(0.2501), decision(math.nan)] == ["go", "stop", "stop"]


def test_a_number_is_where_it_stops_and_nothing_is_never() -> None:
    read = TypeAdapter(GateConfig).validate_python
    assert read({"rejected_fraction": 0.05}).rejected_fraction == Threshold(stop=0.05)
    assert read({"rejected_fraction": {"warn": 0.01}}).rejected_fraction == Threshold(warn=0.01)
    off = read({"rejected_fraction": {}})
    assert judged({6: {"rows_read": 10, "rows_rejected": 10}}, config=off).checks == ()
    again = TypeAdapter(GateConfig).validate_json(TypeAdapter(GateConfig).dump_json(off))
    assert again == off


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"rejected_fraction": 1.5}, "a fraction is at most 1"),
        ({"late_fraction": -0.1}, "greater than or equal to 0"),
        ({"late_fraction": {"warn": 0.2, "stop": 0.1}}, "late_fraction stops at 0.1, before it warns at 0.2"),
        ({"min_volume_fraction": {"warn": 0.1, "stop": 0.2}}, "expected warn >= stop"),
        ({"late_fraction": {"halt": 0.2}}, "halt"),
        ({"max_rejected_fraction": 0.1}, "max_rejected_fraction"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(GateConfig).validate_python(tree)
