"""The registry's ledger of spans: what became of each, and who decided otherwise.

`pending` → `learned`, or `quarantined`, which a person may override to `pending`. A person may also find one bad that
was learned: `condemned`; what follows from that is in serving/lineage.py. Records are added and never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from serving.errors import RegistryError
from serving.registry_database import Store
from serving.registry_records import SpanRecord
from serving.registry_tables import SPANS

SPAN_STATES = ("condemned", "learned", "pending", "quarantined")
MAY_BE_OVERRIDDEN = ("condemned", "quarantined")


class SpanLedger(Store):
    """What became of each span; the last record of a span is what holds."""

    def record_span(self, span: int, state: str, verdict: dict[str, Any], run: str) -> None:
        """Notes what became of a span: learned, pending or quarantined. Earlier records stay."""
        if state not in SPAN_STATES:
            raise RegistryError(f"unknown state of a span: {state!r}; known: {', '.join(SPAN_STATES)}")
        with self._transaction(write=True) as tx:
            self._record_span(tx, span, state, verdict, run)

    def override_span(self, span: int, who: str, why: str) -> None:
        """Accepts a quarantined or condemned span: it is pending again, and its verdict says who accepted it and why.

        Raises RegistryError, naming its state, when the span is neither.
        """
        with self._transaction(write=True) as tx:
            last = _last_record(tx, span)
            if last is None or last.state not in MAY_BE_OVERRIDDEN:
                state = f"it is {last.state}" if last else "no run has judged it yet"
                raise RegistryError(
                    f"span {span} needs no override: {state}; only a quarantined span can be accepted, or a condemned "
                    "one (evergreen spans)"
                )
            verdict = {name: told for name, told in last.verdict.items() if name != "condemned"}
            self._record_span(tx, span, "pending", {**verdict, "override": {"who": who, "why": why}}, last.run)

    def condemn_span(self, span: int, who: str, why: str) -> None:
        """Marks a span bad, as its files were when it was judged last; an earlier override of it ends.

        Raises RegistryError when no run has judged it, or it is condemned already.
        """
        with self._transaction(write=True) as tx:
            last = _last_record(tx, span)
            if last is None:
                raise RegistryError(f"span {span} cannot be condemned: no run has judged it yet (evergreen spans)")
            if last.state == "condemned":
                told = last.verdict["condemned"]
                raise RegistryError(f"span {span} is condemned already, by {told['who']}: {told['why']}")
            verdict = {name: told for name, told in last.verdict.items() if name != "override"}
            self._record_span(tx, span, "condemned", {**verdict, "condemned": {"who": who, "why": why}}, last.run)

    def spans(self) -> list[SpanRecord]:
        """The last record of every span, oldest span first."""
        return sorted({record.span: record for record in self.span_records()}.values(), key=lambda r: r.span)

    def span_records(self) -> list[SpanRecord]:
        """Every record ever made, in the order they were made."""
        with self._transaction() as tx:
            rows = tx.execute(sa.select(SPANS).order_by(SPANS.c.id))
            return [SpanRecord(r.span, r.state, r.verdict, r.run, r.recorded_at) for r in rows]

    def _learn_again(self, tx: sa.Connection, spans: Iterable[int], reason: str, run: str) -> None:
        """Makes spans pending that what is live does not know any more; one that is condemned stays so."""
        for span in sorted(spans):
            last = _last_record(tx, span)
            if last is None or last.state != "condemned":
                told = {name: last.verdict[name] for name in ("label", "fingerprint") if last and name in last.verdict}
                self._record_span(tx, span, "pending", {"reasons": [reason]} | told, run)

    def _record_span(self, tx: sa.Connection, span: int, state: str, verdict: dict[str, Any], run: str) -> None:
        row = {"span": span, "state": state, "verdict": verdict, "run": run, "recorded_at": self.now()}
        tx.execute(SPANS.insert().values(**row))


def _last_record(tx: sa.Connection, span: int) -> Any:
    return tx.execute(sa.select(SPANS).where(SPANS.c.span == span).order_by(SPANS.c.id.desc()).limit(1)).first()
