"""What is told of a version, by hand."""

from __future__ import annotations

from pipeline.versions import audit_rows, compared_metrics, differences, facts, few, moment
from serving.registry_records import AuditLine, Version

MANIFEST = {
    "spans": [1, 2],
    "learned_until_seconds": 86_400 * 365,  # 1970 was no leap year
    "warm_started_from": 100,
    "items": 1682,
    "users": 0,
    "availability": {"items_hidden": 12, "ids_unknown": 0},
    "index": {"kind": "scann", "effort": "scann, 40 of 100 leaves", "recall": 0.98765},
    "code_version": "8c1f00aa11bb",
    "config_sha256": "c0ffee00112233",
    "index_config_sha256": "1dea00112233",
    "vocabulary_sha256": "abcdef0123",
    "model_sha256": "fedcba9876",
}


def version(number: int, metrics: dict[str, float | None], **changes: object) -> Version:
    return Version(number, "live", "/there", MANIFEST | changes, metrics, {}, 0.0)


def test_facts_are_what_the_manifest_says() -> None:
    assert facts(version(7, {})) == {
        "spans": "1, 2",
        "learned until": "1971-01-01 00:00:00 UTC",
        "warm-started from": "100",
        "promoted from": "–",
        "items": "1,682",
        "users": "0",
        "hidden items": "12",
        "index": "scann, 40 of 100 leaves",
        "recall of the index": "0.9877",
        "code": "8c1f00aa11bb",
        "configuration": "c0ffee00",
        "its index": "1dea0011",
        "vocabulary": "abcdef01",
        "model": "fedcba98",
    }


def test_a_manifest_of_before_is_shown_with_what_it_has() -> None:
    assert set(facts(Version(7, "live", "", {}, {}, {}, 0.0)).values()) == {"–"}
    searched = facts(version(7, {}, index={"kind": "exact", "recall": None}))  # nothing was tried
    assert (searched["index"], searched["recall of the index"]) == ("exact", "–")


def test_metrics_stand_side_by_side_and_what_is_missing_is_no_zero() -> None:
    one = version(7, {"recall@10": 0.25, "mrr": 0.1, "auc": None, "log_loss": 0.0})
    other = version(8, {"recall@10": 0.125, "ndcg@10": 0.2, "auc": 0.5, "log_loss": 0.5})
    assert compared_metrics(one, other) == [
        ("recall@10", "0.2500", "0.1250", "-0.1250"),
        ("mrr", "0.1000", "–", "–"),
        ("auc", "–", "0.5000", "–"),
        ("log_loss", "0.0000", "0.5000", "+0.5000"),
        ("ndcg@10", "–", "0.2000", "–"),
    ]


def test_only_what_differs_is_shown_and_of_spans_what_only_one_has() -> None:
    other = version(8, {}, spans=[2, 3, 4], items=1700, model_sha256="0" * 64)
    assert differences(version(7, {}), other) == [
        ("only its spans", "1", "3, 4"),
        ("items", "1,682", "1,700"),
        ("model", "fedcba98", "00000000"),
    ]
    assert differences(version(7, {}), version(8, {})) == []


def test_the_audit_is_told_the_newest_first() -> None:
    lines = [
        AuditLine("pipeline", 0.0, "better", "push", None, 7),
        AuditLine("ann", 60.0, "bad", "quarantine", 7, None),
    ]
    assert audit_rows(lines) == [
        ("1970-01-01 00:01:00 UTC", "ann", "quarantine", "7", "–", "bad"),
        ("1970-01-01 00:00:00 UTC", "pipeline", "push", "–", "7", "better"),
    ]


def test_many_spans_are_the_first_the_last_and_how_many() -> None:
    assert few([1, 2, 3, 4, 5, 6]) == "1, 2, 3, 4, 5, 6"
    assert few([1, 2, 3, 5, 8, 13, 21]) == "1 … 21 (7)"
    assert few([]) == "–"
    assert moment(0.9) == "1970-01-01 00:00:00 UTC"
