"""The run report: one static page that says what became of a run, and why, to someone who reads no code.

    write_report(places, run, expected_node_ids, config_json)  →  <reports>/<run>/index.html

A section is a function from the run's facts to its title and HTML, or None when its node did not run. To add one,
write the function, give it a macro in report.html.j2, and put it in SECTIONS where it should stand.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from components.data_gate import page as gate_page
from components.pages import page_style, templates
from pipeline.places import Places
from pipeline.runs import CACHED, COMPLETE, RUNNING, Run

_FIGURES = ("value", "low", "high", "baseline", "baseline_low", "baseline_high", "popularity")


class Section(NamedTuple):
    title: str
    html: Markup


class Verdict(NamedTuple):
    """What became of the run. `kind` is its colour: pushed, unchanged, rejected, stopped, failed or running."""

    kind: str
    title: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Facts:
    """All that sections may draw on."""

    run: Run
    expected_node_ids: tuple[str, ...]
    config_json: str | None

    @property
    def gate(self) -> dict[str, Any] | None:
        """The data gate's verdict, also of a run that it stopped."""
        verdict: dict[str, Any] | None = self.read("DataGate", "verdict", "verdict.json")
        return verdict

    def read(self, node_id: str, channel: str, name: str) -> Any:
        """A JSON file in what a node wrote, or None when it did not run or its (local) files are gone."""
        node = self.run.node(node_id)
        artifact = node.outputs.get(channel) if node else None
        path = Path(artifact.uri, name) if artifact else None
        if path is None or not path.is_file():
            return None
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)  # NaN: no figure


def write_report(places: Places, run: Run, expected_node_ids: Iterable[str], config_json: str | None) -> Path:
    """Writes the page and returns its path. Writing it again gives the same page."""
    facts = Facts(run, tuple(expected_node_ids), config_json)
    page = places.reports / (re.sub(r"[^\w.-]+|^\.+", "-", run.run_id) or "run") / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(facts, places.pipeline), encoding="utf-8")
    return page


def render(facts: Facts, pipeline: str, without: Container[SectionMaker] = ()) -> str:
    """The page as HTML that stands alone; `without` are sections for which the engine has pages of its own."""
    sections = [section for make in SECTIONS if make not in without and (section := make(facts))]
    return str(
        _macro("page", pipeline=pipeline, run=facts.run, verdict=judge(facts), sections=sections, style=page_style())
    )


def judge(facts: Facts) -> Verdict:
    """The verdict in words. What stopped the run comes first, then who said no, then the push."""
    run = facts.run
    for node in run.nodes:
        if node.state in (COMPLETE, CACHED, RUNNING):
            continue
        lines = (node.error or node.why).splitlines()
        if lines[0].startswith("DataStopped: "):
            if node.id == "Admission" and facts.gate:
                return _because("stopped", "Stopped by the data gate", facts.gate["reasons"])
            lines[0] = lines[0].removeprefix("DataStopped: ")
            return _because("stopped", f"Stopped in {node.id}", lines)
        return _because("failed", f"Failed in {node.id}", lines)
    if unfinished := [node.id for node in run.nodes if node.state == RUNNING]:
        return Verdict("running", f"Not finished: running, or killed, in {', '.join(unfinished)}")
    evaluation = facts.read("Evaluator", "evaluation", "verdict.json")
    if evaluation and not evaluation["is_blessed"]:
        return _because("rejected", "Rejected", evaluation["sentences"][:1])  # all of them head the metrics
    servable = facts.read("ServableValidator", "blessing", "report.json")
    if servable and not servable["is_blessed"]:
        return _because("rejected", "Rejected by the servable's check", servable["reasons"])
    if missing := [node_id for node_id in facts.expected_node_ids if run.node(node_id) is None]:
        return Verdict("failed", f"Incomplete: {', '.join(missing)} never ran")
    pusher = run.node("Pusher")
    pushed = pusher.outputs.get("pushed_model") if pusher else None
    if pusher is None or pushed is None or not pushed.properties.get("pushed"):
        if pushed and (why_not := pushed.properties.get("why_not")):
            return _because("rejected", "Not pushed", [str(why_not)])
        return Verdict("unchanged", "Complete, and nothing was pushed")
    version = pushed.properties.get("pushed_version")
    if pusher.cached:
        return Verdict("unchanged", f"Nothing new: version {version} was pushed from the same data and configuration")
    return Verdict("pushed", f"Pushed as version {version}")


def data(facts: Facts) -> Section | None:
    summary = facts.read("InteractionExampleGen", "examples", "summary.json")
    return Section("Data", _macro("data", summary=summary)) if summary else None


def gate(facts: Facts) -> Section | None:
    return Section("Data gate", gate_page.section(facts.gate)) if facts.gate else None


def metrics(facts: Facts) -> Section | None:
    verdict = facts.read("Evaluator", "evaluation", "verdict.json")
    if verdict is None:
        return None
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in verdict["rows"]:
        groups.setdefault(row["metric"], []).append(row)
    scaled = [(metric, *_scale(rows)) for metric, rows in groups.items()]
    return Section("Metrics", _macro("metrics", verdict=verdict, groups=scaled))


def start(facts: Facts) -> Section | None:
    """What the training began with: which version, and what became of each vocabulary."""
    ledger = facts.read("Trainer", "model_run", "vocabulary_ledger.json")
    summary = facts.read("InteractionExampleGen", "examples", "summary.json") or {}
    return Section("Start of training", _macro("start", ledger=ledger, summary=summary)) if ledger else None


def servable_check(facts: Facts) -> Section | None:
    report = facts.read("ServableValidator", "blessing", "report.json")
    if report is None:
        return None
    figures = _flat({"p50_ms": report["p50_ms"]}) if report.get("p50_ms") else []
    return Section("Servable check", _macro("servable_check", found=report["checks"], figures=figures))


def time_spent(facts: Facts) -> Section | None:
    longest = max((node.seconds for node in facts.run.nodes), default=0) or 1
    missing = [node_id for node_id in facts.expected_node_ids if facts.run.node(node_id) is None]
    return Section("Time", _macro("time_spent", run=facts.run, longest=longest, missing=missing))


def index(facts: Facts) -> Section | None:
    """What was tried for the index, and what was chosen, as figures and as the picture that its builder drew."""
    curve = facts.read("IndexBuilder", "servable", "assets.extra/index.json")
    if not curve:
        return None
    node = facts.run.node("IndexBuilder")
    picture = Path(node.outputs["servable"].uri, "assets.extra/index.png") if node else None
    drawn = base64.b64encode(picture.read_bytes()).decode() if picture and picture.is_file() else None
    return Section("Index", _macro("index", curve=curve, picture=drawn))


def release(facts: Facts) -> Section | None:
    manifest = facts.read("IndexBuilder", "servable", "assets.extra/release.json")
    return Section("Release", _macro("definitions", pairs=_flat(manifest))) if manifest else None


def artifacts(facts: Facts) -> Section | None:
    nodes = [node for node in facts.run.nodes if node.outputs]
    return Section("Artifacts", _macro("artifacts", nodes=nodes)) if nodes else None


def configuration(facts: Facts) -> Section | None:
    if not facts.config_json:
        return None
    text = json.dumps(json.loads(facts.config_json), indent=2, ensure_ascii=False)
    return Section("Configuration", _macro("configuration", text=text))


SectionMaker = Callable[[Facts], Section | None]

SECTIONS: list[SectionMaker] = [
    metrics,
    data,
    gate,
    start,
    servable_check,
    index,
    time_spent,
    release,
    artifacts,
    configuration,
]


def _because(kind: str, title: str, reasons: Sequence[str]) -> Verdict:
    return Verdict(kind, f"{title}: {reasons[0]}" if reasons else title, reasons[1:])


def _scale(rows: list[dict[str, Any]]) -> tuple[float, float, list[dict[str, Any]]]:
    """Rows of one metric → the ends of their common axis, and the rows with `at`: their figures in % of the axis.

    The axis begins at 0 unless all figures are in the upper half, where that would hide their differences.
    """
    rows = [{**dict.fromkeys((*_FIGURES, "bound", "passed")), **row} for row in rows]
    figures = [row[name] for row in rows for name in _FIGURES if row[name] is not None] or [0.0]
    least, most = min(figures), max(figures)
    low = min(least, 0.0) if least < most / 2 else least - 0.15 * ((most - least) or abs(most) or 1)
    high = most + 0.08 * ((most - low) or 1)
    for row in rows:
        present = {name: row[name] for name in _FIGURES if row[name] is not None}
        row["at"] = {name: round(100 * (value - low) / (high - low), 2) for name, value in present.items()}
    return low, high, rows


def _flat(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested objects as (dotted name, value): what a table of definitions can show."""
    pairs: list[tuple[str, Any]] = []
    for key, value in nested.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            pairs.append((f"{prefix}{key}", shown))
    return pairs


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _link(uri: str) -> str:
    return uri if "://" in uri else Path(uri).absolute().as_uri()


@cache
def _macros() -> Any:
    environment = templates(Path(__file__).parent)
    environment.filters |= {"utc": _utc, "link": _link}
    return environment.get_template("report.html.j2").module


def _macro(name: str, **values: Any) -> Markup:
    return Markup(getattr(_macros(), name)(**values))
