"""What a check says: a line with PASS, WARN or FAIL, a sentence, and sample rows below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.data_gate.config import Threshold

Level = Literal["PASS", "WARN", "FAIL"]
SAMPLES = 3


@dataclass(frozen=True)
class Line:
    """One check. `samples` are shown below it."""

    level: Level
    what: str
    sentence: str
    samples: tuple[str, ...] = ()


def level_of(share: float, bound: Threshold) -> Level:
    """As the gate judges: on its bound a figure passes."""
    if bound.stop is not None and share > bound.stop:
        return "FAIL"
    return "WARN" if bound.warn is not None and share > bound.warn else "PASS"


def share(part: int, whole: int) -> str:
    """1,204 of 38,211 rows (3.15%)."""
    return f"{part:,} of {whole:,} rows ({100 * part / max(1, whole):.2f}%)"


def tell(lines: Sequence[Line]) -> str:
    """The lines, one below the other, and the verdict."""
    width = max(len(line.what) for line in lines)
    text = []
    for line in lines:
        text.append(f"{line.level}  {line.what:<{width}}  {line.sentence}")
        text += [f"{'':{width + 8}}{sample}" for sample in line.samples]
    failed, warned = (sum(line.level == level for line in lines) for level in ("FAIL", "WARN"))
    if failed:
        verdict = (
            f"NOT READY: {failed} of {len(lines)} checks failed; correct the contract or the data, and check again"
        )
    else:
        verdict = f"READY: {len(lines) - warned} of {len(lines)} checks passed" + (
            f", {warned} to look at" if warned else ""
        )
    return "\n".join([*text, verdict])


def has_failed(lines: Sequence[Line]) -> bool:
    return any(line.level == "FAIL" for line in lines)
