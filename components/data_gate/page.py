"""The verdict for people: a page that stands alone, and its table for the run report.

write_verdict(verdict, reasons, folder)  →  verdict.json, verdict.html
section(json.loads(verdict.json))        →  the table of checks, failures first
"""

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.data_gate.evidence import Reason
from components.data_gate.verdict import Verdict, show
from components.pages import page_style, templates

GROUPS = (("Failed", "failed", "no", "✗"), ("Warned", "warned", "so-so", "!"), ("Passed", "passed", "yes", "✓"))
ROOM = 1.15  # the axis goes on behind the largest figure


def write_verdict(verdict: Verdict, reasons: Iterable[Reason], folder: Path) -> None:
    """Writes `verdict.json` and `verdict.html`; `reasons` are quoted with samples of the rejected rows."""
    document = verdict.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    frequent = sorted(reasons, key=lambda reason: -reason.count)
    page = _macros().page(document, _groups(document), frequent, page_style())
    (folder / "verdict.html").write_text(str(page).lstrip(), encoding="utf-8")


def section(verdict: Mapping[str, Any]) -> Markup:
    """The table of checks as HTML, from what `verdict.json` holds; it wants the classes of page.css."""
    return Markup(_macros().section(verdict, _groups(verdict)))


def _groups(verdict: Mapping[str, Any]) -> list[tuple[str, str, str, list[dict[str, Any]]]]:
    """Checks by outcome, those that failed first, each with what its row shows; an outcome without any is left out."""
    groups = []
    for title, outcome, tone, mark in GROUPS:
        if found := [_row(check) for check in verdict["checks"] if check["outcome"] == outcome]:
            groups.append((title, tone, mark, found))
    return groups


def _row(check: Mapping[str, Any]) -> dict[str, Any]:
    """`at`: figure and bounds in % of an axis from 0, those that are finite numbers."""
    known = {name: check[name] for name in ("figure", "warn", "stop") if check[name] is not None}
    finite = {name: value for name, value in known.items() if math.isfinite(value)}
    end = ROOM * max(finite.values(), default=0) or 1
    at = {name: round(100 * max(value, 0) / end, 2) for name, value in finite.items()}
    sign = "≥" if check["at_least"] else "≤"
    bounds = [
        f"{word} {sign} {show(check[name], check['unit'])}"
        for name, word in (("warn", "usual"), ("stop", "needed" if check["at_least"] else "allowed"))
        if check[name] is not None
    ]
    return {**check, "at": at, "shown": show(check["figure"], check["unit"]), "bounds": ", ".join(bounds)}


@cache
def _macros() -> Any:
    return templates(Path(__file__).parent).get_template("page.html.j2").module
