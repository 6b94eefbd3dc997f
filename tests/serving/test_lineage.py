"""Which versions learned what is condemned, and where a run starts, by hand.

7 learned 1 ─ 8 learned 2 ─ 9 learned 3, live
"""

from __future__ import annotations

import pytest

from serving.lineage import Condemned, condemned, stains, start_of, stems, why_not_live
from serving.registry_records import SpanRecord, Version


def version(number: int, state: str, spans: dict[int, str], parent: int | None = None) -> Version:
    learned = {str(span): fingerprint for span, fingerprint in spans.items()}
    manifest = {"lineage": {"learned": learned}, "warm_started_from": parent}
    return Version(number, state, "", manifest, {}, {}, 0.0)


SEVEN = version(7, "retired", {1: "a"})
EIGHT = version(8, "retired", {1: "a", 2: "b"}, parent=7)
NINE = version(9, "live", {1: "a", 2: "b", 3: "c"}, parent=8)
VERSIONS = [NINE, EIGHT, SEVEN]


def bad(span: int, fingerprint: str) -> Condemned:
    return Condemned(span, str(span), fingerprint, "ann", "a crawler")


def record(span: int, state: str, **verdict: object) -> SpanRecord:
    return SpanRecord(span, state, dict(verdict), "run", 0.0)


SAID = {"who": "ann", "why": "a crawler"}


def test_what_is_condemned_stays_so_through_later_records_until_it_is_overridden() -> None:
    ledger = [
        record(2, "learned", fingerprint="b", label="2011-12-09"),
        record(2, "condemned", fingerprint="b", label="2011-12-09", condemned=SAID),
        record(2, "pending", fingerprint="corrected"),
        record(2, "learned", fingerprint="corrected"),
        record(3, "condemned", condemned=SAID),  # of a ledger without fingerprints
    ]
    first, second = condemned(ledger)
    assert (first.span, first.fingerprint, str(first)) == (2, "b", "span 2011-12-09, condemned by ann: a crawler")
    assert (second.span, second.is_of("anything")) == (3, True)
    assert condemned([*ledger, record(2, "pending", fingerprint="b", override=SAID)]) == [second]
    assert condemned([*ledger, record(2, "pending", fingerprint="other", override=SAID)]) == [first, second]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], NINE),
        ([bad(3, "c")], EIGHT),
        ([bad(2, "b")], SEVEN),
        ([bad(3, "c"), bad(2, "b")], SEVEN),
        ([bad(1, "a")], None),
        ([bad(2, "other files")], NINE),
        ([bad(2, "")], SEVEN),
        ([bad(4, "d")], NINE),
    ],
)
def test_a_run_starts_from_the_newest_version_without_a_stain(found: list[Condemned], expected: Version | None) -> None:
    assert start_of(VERSIONS, found) == expected
    assert bool(why_not_live(VERSIONS, found)) == (expected != NINE)


def test_before_the_first_push_there_is_nothing_to_start_from() -> None:
    assert start_of([], [bad(1, "a")]) is None
    assert start_of([version(7, "pushing", {1: "a"})], []) is None
    assert why_not_live([], [bad(1, "a")]) == ""


def test_what_was_rolled_back_or_is_newer_than_the_live_version_is_no_start() -> None:
    live = version(19, "live", {1: "a", 2: "b"}, parent=7)
    rolled_back = version(10, "quarantined", {1: "a"}, parent=7)
    newer = version(20, "retired", {3: "c"})
    found = [bad(2, "b")]
    assert start_of([live, rolled_back, newer, SEVEN], found) == SEVEN
    assert start_of([live, rolled_back], found) is None


def test_a_version_that_learned_the_corrected_span_stems_from_what_it_was_before() -> None:
    corrected = version(10, "live", {1: "a", 2: "corrected", 3: "c"}, parent=9)
    versions = [corrected, version(9, "retired", {1: "a", 2: "b", 3: "c"}, parent=8), EIGHT, SEVEN]
    found = [bad(2, "b")]
    assert stains(corrected, versions, found) == found
    assert start_of(versions, found) == SEVEN
    anew = version(12, "live", {2: "corrected"})  # from nothing
    assert stains(anew, [anew], found) == []


def test_the_sentence_names_all_that_is_condemned() -> None:
    said = why_not_live(VERSIONS, [bad(3, "c"), bad(2, "b"), bad(4, "d")])
    assert said == "version 9 learned span 3, condemned by ann: a crawler; span 2, condemned by ann: a crawler"


def test_what_stems_from_a_span_and_how() -> None:
    corrected = version(10, "live", {1: "a", 2: "corrected"}, parent=9)
    assert stems([corrected, *VERSIONS], 2) == {
        8: "learned it",
        9: "through version 8, which it started from",
        10: "learned it",  # as it was corrected
    }
    assert stems(VERSIONS, 4) == {}
    before = Version(5, "retired", "", {"spans": [1, 2]}, {}, {}, 0.0)  # a manifest of before
    assert stems([before], 2) == {5: "learned it"}
