"""A run's facts from its artifacts alone, as pipeline/report.py wants them, and what the UI shows of them."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from tfx.types.artifact import Artifact as TfxArtifact

from evergreen_kubeflow.executor_input import artifact_metadata
from pipeline.report import Facts, judge
from pipeline.runs import COMPLETE, Artifact, Node, Run


def facts_of(run_id: str, config_json: str, artifacts: Mapping[tuple[str, str], TfxArtifact]) -> Facts:
    """`artifacts` by node and channel. Seconds are 0: the Kubeflow UI has them."""
    nodes: dict[str, dict[str, Artifact]] = {}
    for (node_id, channel), artifact in artifacts.items():
        known = Artifact(artifact.type_name, artifact.uri, artifact_metadata(artifact))
        nodes.setdefault(node_id, {})[channel] = known
    run = Run(
        run_id=run_id,
        started=datetime.now(timezone.utc),
        seconds=0,
        state=COMPLETE,
        nodes=tuple(Node(node_id, COMPLETE, 0, outputs=outputs) for node_id, outputs in nodes.items()),
    )
    return Facts(run, tuple(nodes), config_json)


def figures(facts: Facts) -> dict[str, float]:
    """The new model's overall metrics and, beside each, production's as `production <metric>`."""
    verdict = facts.read("Evaluator", "evaluation", "verdict.json")
    overall = [row for row in verdict["rows"] if row["slice"] == "overall"]
    new = {row["metric"]: row["value"] for row in overall if row["value"] is not None}
    baseline = {f"production {row['metric']}": row["baseline"] for row in overall if row["baseline"] is not None}
    return new | baseline


def verdict_text(facts: Facts) -> str:
    """The blessing as Markdown: what became of the run, why, and a table of metrics per slice."""
    outcome = judge(facts)
    evaluation = facts.read("Evaluator", "evaluation", "verdict.json")
    lines = [f"# {outcome.title}", "", *(f"- {sentence}" for sentence in evaluation["sentences"]), ""]
    lines += [
        "| metric | slice | new model | 95% interval | production | popularity | bound | |",
        "|---|---|---:|---|---:|---:|---|---|",
    ]
    for row in evaluation["rows"]:
        interval = f"{row['low']:.4f} – {row['high']:.4f}" if row["low"] is not None else ""
        mark = {True: "✓", False: "✗", None: ""}[row["passed"]]
        cells = [row["metric"], row["slice"], _figure(row["value"]), interval, _figure(row["baseline"])]
        lines.append("| " + " | ".join([*cells, _figure(row["popularity"]), row["bound"] or "", mark]) + " |")
    pushed = facts.run.node("Pusher").outputs["pushed_model"].properties  # type: ignore[union-attr]
    if pushed.get("pushed"):
        place = Path(str(pushed["pushed_destination"]))
        lines += ["", f"The servable is at `{place}`; the model server takes it from there by itself."]
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
