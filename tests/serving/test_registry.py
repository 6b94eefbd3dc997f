"""The registry in either store: states, rollback, recovery, spans, audit, and what is kept of values."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serving.errors import RegistryError
from serving.registry import Registry
from tests.ledger import overrides


def push(registry: Registry, version: int) -> None:
    registry.begin_push(version, f"/models/{version}", {"items": version}, {"recall": 0.1}, {"blessed": True})
    registry.finish_push(version, "pipeline", f"better than before {version}")


def states(registry: Registry) -> dict[int, str]:
    return {version.version: version.state for version in registry.versions()}


def test_an_empty_registry_answers(registry: Registry) -> None:
    assert registry.live() is None
    assert registry.versions() == []
    assert registry.spans() == []
    assert registry.audit() == []


def test_a_pushing_version_is_not_live_yet(registry: Registry) -> None:
    push(registry, 10)
    registry.begin_push(11, "/models/11", {}, {}, {})
    assert states(registry) == {11: "pushing", 10: "live"}
    assert registry.live().version == 10


def test_a_push_retires_the_version_before(registry: Registry) -> None:
    push(registry, 10)
    push(registry, 11)
    assert states(registry) == {11: "live", 10: "retired"}
    assert [v.version for v in registry.versions()] == [11, 10]  # newest first


def test_what_is_written_is_read_back_by_another_connection(registry: Registry) -> None:
    registry.begin_push(10, "/models/10", {"a": [1, {"b": None}]}, {"recall@10": 0.25}, {"why": "größer"})
    registry.finish_push(10, "ann", "first")
    version = Registry(registry.url).get(10)
    assert (version.uri, version.state, version.created_at) == ("/models/10", "live", 1.0)
    assert version.manifest == {"a": [1, {"b": None}]}
    assert (version.metrics, version.verdict) == ({"recall@10": 0.25}, {"why": "größer"})


def test_numbers_are_kept_to_the_last_digit(registry_url: str) -> None:
    registry = Registry(registry_url, now=lambda: 1_763_000_000.123456)
    registry.begin_push(2**62 + 1, "", {}, {"recall": 0.1 + 0.2}, {})  # more than 32 bits, and more than a double has
    version = registry.get(2**62 + 1)
    assert (version.created_at, version.metrics) == (1_763_000_000.123456, {"recall": 0.30000000000000004})


def test_what_is_no_number_is_kept_as_null(registry: Registry) -> None:
    nan, infinity = float("nan"), float("inf")  # an interval over no examples, a distance from nothing
    registry.begin_push(
        10, "", {"a": {"b": [nan, 1.5]}}, {"auc": nan}, {"low": -infinity, "rows": ({"high": infinity},)}
    )
    version = registry.get(10)
    assert (version.manifest, version.metrics) == ({"a": {"b": [None, 1.5]}}, {"auc": None})
    assert version.verdict == {"low": None, "rows": [{"high": None}]}
    registry.record_span(1, "quarantined", {"figure": nan, "sentence": "a\x00b \ud800 größer"}, "run")
    assert registry.spans()[0].verdict == {"figure": None, "sentence": "a\x00b \ud800 größer"}


def test_a_rollback_goes_back_to_the_newest_retired_that_is_not_quarantined(registry: Registry) -> None:
    for version in (10, 11, 12):
        push(registry, version)
    assert registry.roll_back(12, "bob", "clicks fell", "/q/12").version == 11
    push(registry, 13)
    assert registry.roll_back(13, "bob", "clicks fell again", "/q/13").version == 11  # not 12, which is quarantined
    assert states(registry) == {13: "quarantined", 12: "quarantined", 11: "live", 10: "retired"}
    assert registry.live().version == 11


def test_a_rollback_refuses_when_there_is_nothing_to_go_back_to(registry: Registry) -> None:
    push(registry, 10)
    with pytest.raises(RegistryError, match="nothing to go back to: 10 is live"):
        registry.roll_back(10, "bob", "clicks fell", "/q/10")
    assert states(registry) == {10: "live"}  # and nothing has changed
    assert len(registry.audit()) == 1


def test_only_the_live_version_can_be_rolled_back(registry: Registry) -> None:
    push(registry, 10)
    push(registry, 11)
    with pytest.raises(RegistryError, match=r"version 10 is retired; only the live .* which is 11"):
        registry.roll_back(10, "bob", "typo", "/q/10")


def test_a_quarantined_version_is_never_live_again(registry: Registry) -> None:
    for version in (10, 11, 12):
        push(registry, version)
    registry.quarantine(11, "ann", "it learned a crawler", "/q/11")
    assert states(registry) == {12: "live", 11: "quarantined", 10: "retired"}  # what is live stays
    assert registry.get(11).uri == "/q/11"
    assert registry.newest_retired().version == 10
    assert registry.roll_back(12, "bob", "clicks fell", "/q/12").version == 10
    line = registry.audit()[-2]
    told = (line.action, line.from_version, line.to_version, line.who, line.why)
    assert told == ("quarantine", 11, None, "ann", "it learned a crawler")


def test_only_a_retired_version_is_quarantined_alone(registry: Registry) -> None:
    for version in (10, 11, 12):
        push(registry, version)
    registry.begin_push(13, "/models/13", {}, {}, {})
    registry.quarantine(11, "ann", "a crawler")
    assert registry.get(11).uri == "/models/11"  # nothing was moved
    registry.remove([10], "pipeline", "old")
    for version, said in (
        (9, "version 9 is not in the registry"),
        (10, "version 10 cannot be quarantined: its files were removed"),
        (11, "version 11 cannot be quarantined: it is quarantined already, by ann: a crawler"),
        (12, "version 12 cannot be quarantined: it is live"),
        (13, "version 13 cannot be quarantined: its push is not done"),
    ):
        with pytest.raises(RegistryError, match=said):
            registry.quarantine(version, "bob", "x")
    assert len(registry.audit()) == 5  # three pushes, one quarantine, one removal


def test_what_was_quarantined_by_a_rollback_is_told_with_its_reason(registry: Registry) -> None:
    push(registry, 10)
    push(registry, 11)
    registry.roll_back(11, "bob", "clicks fell", "/q/11")
    with pytest.raises(RegistryError, match="quarantined already, by bob: clicks fell"):
        registry.quarantine(11, "ann", "x")


def test_a_removed_version_keeps_its_row_and_is_never_chosen(registry: Registry) -> None:
    for version in (10, 11, 12):
        push(registry, version)
    registry.quarantine(10, "ann", "a crawler")
    registry.remove([11, 10], "pipeline", "of retired versions, 1 is kept")
    assert states(registry) == {12: "live", 11: "removed", 10: "removed"}
    assert registry.get(11).manifest == {"items": 11}
    assert registry.newest_retired() is None
    told = [(a.action, a.from_version, a.to_version, a.why) for a in registry.audit()[-2:]]
    assert told == [("remove", number, None, "of retired versions, 1 is kept") for number in (11, 10)]


def test_what_is_in_use_is_not_removed_and_then_nothing_else_is(registry: Registry) -> None:
    push(registry, 10)
    push(registry, 11)
    registry.begin_push(12, "/models/12", {}, {}, {})
    for version, said in ((11, "11 cannot be removed: it is live"), (12, "12 cannot be removed: its push is not done")):
        with pytest.raises(RegistryError, match=said):
            registry.remove([10, version], "ann", "old")
    assert states(registry) == {12: "pushing", 11: "live", 10: "retired"}
    assert len(registry.audit()) == 2


def test_only_a_retired_version_may_be_promoted_and_the_others_are_told_what_may(registry: Registry) -> None:
    for version in (8, 9, 10, 11, 12):
        push(registry, version)
    registry.begin_push(13, "/models/13", {}, {}, {})
    registry.quarantine(11, "ann", "a crawler")
    registry.remove([8], "pipeline", "old")
    assert registry.promotable(10) == registry.get(10)
    for version, said in (
        (8, "its files were removed"),
        (11, "by ann: a crawler"),
        (12, "it is live"),
        (13, "its push"),
    ):
        with pytest.raises(RegistryError, match=f"version {version} cannot be promoted: .*{said}.*to be had: 10, 9$"):
            registry.promotable(version)


def test_spans_that_a_promoted_version_does_not_know_are_pending_again(registry: Registry) -> None:
    for version, spans in ((10, [1]), (11, [1, 2, 3])):
        registry.begin_push(version, "", {"spans": spans}, {}, {})
        registry.finish_push(version, "pipeline", "better")
    for span in (1, 2, 3):
        registry.record_span(span, "learned", {"label": f"day {span}", "fingerprint": f"print {span}"}, "run")
    registry.condemn_span(3, "ann", "a crawler")
    registry.begin_push(12, "/models/12", {"spans": [1], "promoted_from": 10}, {}, {})
    registry.finish_push(12, "bob", "clicks fell since")
    assert {record.span: record.state for record in registry.spans()} == {1: "learned", 2: "pending", 3: "condemned"}
    told = registry.spans()[1]
    assert (told.run, told.verdict["label"], told.verdict["fingerprint"]) == ("/models/12", "day 2", "print 2")
    assert told.verdict["reasons"] == ["version 11, which had learned it, gave way to an older one: clicks fell since"]
    line = registry.audit()[-1]
    assert (line.action, line.from_version, line.to_version) == ("promote", 11, 12)


def test_refusals_name_what_is_known(registry: Registry) -> None:
    push(registry, 10)
    with pytest.raises(RegistryError, match="version 9 is not in the registry; newest known: 10"):
        registry.get(9)
    with pytest.raises(RegistryError, match="version 10 is in the registry already, as live"):
        registry.begin_push(10, "/models/10", {}, {}, {})
    with pytest.raises(RegistryError, match="version 10 cannot go live: it is live, not pushing"):
        registry.finish_push(10, "ann", "twice")
    registry.begin_push(5, "/models/5", {}, {}, {})
    with pytest.raises(RegistryError, match="version 5 cannot go live: 10 is live"):
        registry.finish_push(5, "ann", "late")


def test_recovery_finishes_what_is_complete_and_forgets_the_rest(registry: Registry) -> None:
    push(registry, 10)
    registry.begin_push(11, "/models/11", {}, {}, {})  # killed before its files were complete
    registry.begin_push(12, "/models/12", {}, {}, {})  # killed after
    left = registry.abandon_pushes(lambda version: version.version == 12)
    assert [version.version for version in left] == [11, 12]
    assert states(registry) == {12: "live", 10: "retired"}
    assert [(line.action, line.from_version, line.to_version) for line in registry.audit()] == [
        ("push", None, 10),
        ("abandon", 11, 10),
        ("finish", 10, 12),
    ]


def test_recovery_does_not_put_an_old_push_over_a_newer_live_version(registry: Registry) -> None:
    registry.begin_push(10, "/models/10", {}, {}, {})
    push(registry, 11)
    registry.abandon_pushes(lambda version: True)
    assert states(registry) == {11: "live", 10: "retired"}


def test_the_last_record_of_a_span_wins_and_every_record_is_kept(registry: Registry) -> None:
    registry.record_span(2, "pending", {}, "run-1")
    registry.record_span(1, "learned", {"rows": 5}, "run-1")
    registry.record_span(2, "quarantined", {"reason": "all clicks by one user"}, "run-2")
    assert [(r.span, r.state, r.run) for r in registry.spans()] == [
        (1, "learned", "run-1"),
        (2, "quarantined", "run-2"),
    ]
    assert [(r.span, r.state) for r in registry.span_records()] == [
        (2, "pending"),
        (1, "learned"),
        (2, "quarantined"),
    ]
    with pytest.raises(RegistryError, match="'lost'; known: condemned, learned, pending, quarantined"):
        registry.record_span(3, "lost", {}, "run-3")


def test_the_audit_tells_who_when_why_from_and_to(registry: Registry) -> None:
    push(registry, 10)  # ticks 1 (row) and 2 (audit)
    push(registry, 11)  # ticks 3 and 4
    registry.roll_back(11, "bob", "clicks fell", "/q/11")  # tick 5
    last = registry.audit()[-1]
    assert (last.who, last.at, last.why, last.action) == ("bob", 5.0, "clicks fell", "rollback")
    assert (last.from_version, last.to_version) == (11, 10)


def test_the_store_itself_refuses_a_second_live_version(registry: Registry) -> None:
    push(registry, 10)
    registry.begin_push(11, "/models/11", {}, {}, {})
    with (
        pytest.raises(RegistryError, match=r"(?i)unique constraint"),
        registry._transaction(write=True) as tx,
    ):
        tx.exec_driver_sql("UPDATE versions SET state = 'live' WHERE version = 11")
    assert registry.live().version == 10


def test_the_registry_needs_no_tensorflow() -> None:
    code = "import sys, serving.registry, serving.releases; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_registry_knows_itself_for_good(registry: Registry, registry_url: str) -> None:
    identity = registry.identity()
    assert len(identity) == 32
    assert [registry.identity(), Registry(registry_url).identity()] == [identity, identity]


def test_an_override_makes_a_quarantined_span_pending_and_keeps_what_the_gate_said(registry: Registry) -> None:
    registry.record_span(5, "quarantined", {"reasons": ["too few rows"]}, "run-1")
    registry.override_span(5, "ann", "a holiday")
    last = registry.spans()[0]
    said = {"reasons": ["too few rows"], "override": {"who": "ann", "why": "a holiday"}}
    assert (last.state, last.run, last.verdict) == ("pending", "run-1", said)
    assert overrides(registry) == {5: {"who": "ann", "why": "a holiday"}}
    assert [record.state for record in registry.span_records()] == ["quarantined", "pending"]


def test_an_override_lasts_as_long_as_records_say_so(registry: Registry) -> None:
    override = {"who": "ann", "why": "a holiday"}
    registry.record_span(5, "quarantined", {}, "run-1")
    registry.override_span(5, **override)
    registry.record_span(5, "pending", {"override": override}, "run-2")
    assert overrides(registry) == {5: override}
    registry.record_span(5, "quarantined", {}, "run-3")
    assert overrides(registry) == {}


def test_a_condemned_span_says_who_and_why_and_keeps_which_files_were_judged(registry: Registry) -> None:
    registry.record_span(5, "quarantined", {"fingerprint": "8c1f", "reasons": ["too few rows"]}, "run-1")
    registry.override_span(5, "bob", "a holiday")
    registry.condemn_span(5, "ann", "a crawler")
    last = registry.spans()[0]
    said = {"fingerprint": "8c1f", "reasons": ["too few rows"], "condemned": {"who": "ann", "why": "a crawler"}}
    assert (last.state, last.run, last.verdict) == ("condemned", "run-1", said)
    registry.override_span(5, "cai", "it was no crawler")
    last = registry.spans()[0]
    said = {"fingerprint": "8c1f", "reasons": ["too few rows"], "override": {"who": "cai", "why": "it was no crawler"}}
    assert (last.state, last.verdict) == ("pending", said)


def test_what_nobody_judged_or_is_condemned_already_is_not_condemned(registry: Registry) -> None:
    registry.record_span(5, "learned", {}, "run-1")
    registry.condemn_span(5, "ann", "a crawler")
    with pytest.raises(RegistryError, match="span 5 is condemned already, by ann: a crawler"):
        registry.condemn_span(5, "bob", "x")
    with pytest.raises(
        RegistryError, match=r"span 6 cannot be condemned: no run has judged it yet \(evergreen spans\)"
    ):
        registry.condemn_span(6, "bob", "x")
    assert len(registry.span_records()) == 2


def test_only_a_quarantined_span_can_be_overridden(registry: Registry) -> None:
    registry.record_span(4, "quarantined", {}, "run-1")
    registry.record_span(4, "pending", {}, "run-2")
    with pytest.raises(RegistryError, match=r"span 4 needs no override: it is pending; only a quarantined span can be"):
        registry.override_span(4, "ann", "x")
    with pytest.raises(RegistryError, match=r"span 9 needs no override: no run has judged it yet"):
        registry.override_span(9, "ann", "x")
    assert len(registry.span_records()) == 2
