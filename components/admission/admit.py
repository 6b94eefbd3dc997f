"""What follows from a verdict: the spans' new records in the ledger, and the words that end the run on a stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QUOTED_REASONS = 2  # the verdict has them all


@dataclass(frozen=True)
class Admitted:
    """`state` and `verdict` are recorded of each of `spans`, in their order; `stop` is None where the run goes on."""

    state: str
    spans: tuple[int, ...]
    stop: str | None = None


def admit(verdict: Mapping[str, Any]) -> Admitted:
    """All spans to learn are pending; on a stop the bad ones are quarantined and the others stay as they were."""
    if verdict["decision"] != "stop":
        return Admitted("pending", tuple(map(int, verdict["spans"])))
    return Admitted("quarantined", tuple(verdict["quarantined"]), stop_message(verdict))


def record_of(span: int, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What the ledger keeps of a verdict for one span: what was asked of it or of the whole run, and who accepted it.

    `fingerprint` says which files were judged: corrected ones are others. A quarantined span keeps no override: what a
    person accepted was an earlier verdict.
    """
    checks = [check for check in verdict["checks"] if check["span"] in (None, span)]
    failed, warned = ([c["sentence"] for c in checks if c["outcome"] == o] for o in ("failed", "warned"))
    record = {"decision": verdict["decision"], "reasons": failed, "warnings": warned, "checks": checks}
    record |= {"fingerprint": verdict["fingerprints"].get(str(span)), "label": verdict["spans"].get(str(span))}
    override = verdict["overrides"].get(str(span))
    return record | {"override": override} if override and span not in verdict["quarantined"] else record


def stop_message(verdict: Mapping[str, Any]) -> str:
    """Two lines for the person who runs the pipeline."""
    reasons, labels = verdict["reasons"], [verdict["spans"][str(span)] for span in verdict["quarantined"]]
    more = [f"and {len(reasons) - QUOTED_REASONS} more"] if len(reasons) > QUOTED_REASONS else []
    quoted = " | ".join([*reasons[:QUOTED_REASONS], *more])
    spans = f"span {labels[0]} is" if len(labels) == 1 else f"spans {', '.join(labels)} are"
    return (
        f"stopped by {len(reasons)} of {len(verdict['checks'])} checks: {quoted}\n"
        f"Nothing was trained; {spans} quarantined. Correct the data, or the gate's bounds, and run again; "
        f"or accept it as it is: evergreen gate override --span {labels[-1]} --why …"
    )


def in_words(verdict: Mapping[str, Any]) -> str:
    """One line for the person who runs the pipeline: which spans go on."""
    labels = list(verdict["spans"].values())
    if len(labels) == 1:
        return f"span {labels[0]} may be learned"
    return f"{len(labels)} spans may be learned, {labels[0]} to {labels[-1]}"
