"""Admission: real verdicts into a real registry, and the words that end a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.admission.component import Admission
from components.artifacts import DataVerdict
from components.data_gate.config import GateConfig
from components.data_gate.decide import decide
from components.data_gate.evidence import Evidence, SpanFigures
from components.data_gate.page import write_verdict
from components.data_gate.verdict import Override
from components.errors import DataStopped
from serving.registry import Registry
from tests.ledger import overrides

GOOD, BAD = (
    SpanFigures(rows_read=100, rows_rejected=0),
    SpanFigures(rows_read=100, rows_rejected=40, fingerprint="ab12"),
)
LATE = SpanFigures(rows_read=100, rows_rejected=0, rows_accepted=100, rows_late=50)


class Run:
    """A run for span 6, from the verdict on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = Registry.at(root / "registry.sqlite")

    def admit(self, learned: dict[int, SpanFigures], accepted: tuple[int, ...] = (), targets: int = 9) -> None:
        verdict = DataVerdict()
        verdict.uri = str(self.root / "verdict")
        overrides = {span: Override(who="ann", why="a sale") for span in accepted}
        decided = decide(Evidence(span=6, learned=learned, targets=targets), GateConfig(), overrides)
        write_verdict(decided, (), Path(verdict.uri))
        Admission.test_call(verdict=verdict, registry_url=self.registry.url, registry_id="r")

    @property
    def states(self) -> dict[int, str]:
        return {record.span: record.state for record in self.registry.spans()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_every_learned_span_is_pending_with_its_own_checks(run: Run) -> None:
    run.admit({4: GOOD, 6: LATE})
    assert run.states == {4: "pending", 6: "pending"}
    fourth, sixth = run.registry.spans()
    assert (fourth.verdict["warnings"], len(sixth.verdict["warnings"])) == ([], 1)
    assert [check["name"] for check in fourth.verdict["checks"]] == ["targets", "rejected rows"]
    assert fourth.run == str(run.root / "verdict")
    assert "override" not in fourth.verdict


def test_a_stop_quarantines_the_bad_span_and_leaves_the_others_as_they_were(run: Run) -> None:
    run.registry.record_span(4, "learned", {}, "before")
    with pytest.raises(DataStopped) as stopped:
        run.admit({4: GOOD, 5: BAD, 6: GOOD})
    assert run.states == {4: "learned", 5: "quarantined"}
    reason = "span 5: 40 of 100 rows rejected (40.00%); 1.00% is allowed"
    bad = run.registry.spans()[-1].verdict
    assert (bad["reasons"], bad["fingerprint"]) == ([reason], "ab12")
    first, second = str(stopped.value).splitlines()
    assert first == f"stopped by 1 of 4 checks: {reason}"
    assert second.startswith("Nothing was trained; span 5 is quarantined. Correct the data")
    assert second.endswith("evergreen gate override --span 5 --why …")


def test_the_verdict_is_there_after_the_stop(run: Run) -> None:
    with pytest.raises(DataStopped):
        run.admit({6: BAD})
    assert json.loads((run.root / "verdict/verdict.json").read_text())["decision"] == "stop"
    assert "40 of 100 rows rejected" in (run.root / "verdict/verdict.html").read_text()


def test_a_fault_of_the_whole_run_quarantines_all_that_it_would_learn(run: Run) -> None:
    with pytest.raises(DataStopped, match=r"spans 4, 6 are quarantined"):
        run.admit({4: GOOD, 6: GOOD}, targets=0)
    assert run.states == {4: "quarantined", 6: "quarantined"}


def test_many_reasons_are_two_and_a_number(run: Run) -> None:
    with pytest.raises(DataStopped, match=r"stopped by 4 of 4 checks: 0 interactions .* \| span 4: .* \| and 2 more\n"):
        run.admit({4: BAD, 5: BAD, 6: BAD}, targets=0)


def test_what_a_person_accepted_goes_on_and_is_carried_on(run: Run) -> None:
    with pytest.raises(DataStopped):
        run.admit({6: BAD})
    run.registry.override_span(6, "ann", "a sale")
    run.admit({6: BAD}, accepted=(6,))
    assert run.states == {6: "pending"}
    assert overrides(run.registry) == {6: {"who": "ann", "why": "a sale"}}
    run.admit({6: GOOD}, accepted=(6,))  # corrected since: it is accepted all the same
    assert overrides(run.registry) == {6: {"who": "ann", "why": "a sale"}}


def test_a_new_quarantine_needs_a_new_override(run: Run) -> None:
    """Span 5 was accepted; with 6 the whole run fails, and 6 was not."""
    with pytest.raises(DataStopped):
        run.admit({5: GOOD, 6: GOOD}, accepted=(5,), targets=0)
    assert run.states == {5: "quarantined", 6: "quarantined"}
    assert overrides(run.registry) == {}
