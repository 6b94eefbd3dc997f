"""What was tried for an index, as figures and as a picture: recall against latency.

write(tuned, …, folder)  →  index.json, index.png
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.index_builder.tune import Tuned

INK, SOFT, COLORS = "#1c2422", "#66716d", {"scann": "#1f7a55", "portable": "#2c5f9e", "exact": "#66716d"}


def to_json(tuned: Tuned, min_recall: float, num_queries: int, count: int) -> dict[str, Any]:
    """All that was tried, and what was chosen."""
    return {
        "index": tuned.chosen.index,
        "recall_of": count,
        "queries": num_queries,
        "min_recall": min_recall,
        "why_not": list(tuned.why_not),
        "tried": [asdict(point) | {"is_chosen": point == tuned.chosen} for point in tuned.tried],
    }


def write(curve: dict[str, Any], folder: Path) -> None:
    """Writes both files; there is no picture of nothing."""
    (folder / "index.json").write_text(json.dumps(curve, indent=2), encoding="utf-8")
    if curve["tried"]:
        draw(curve, folder / "index.png")


def draw(curve: dict[str, Any], path: Path) -> None:
    """One dot for each search that was tried, the bar as a line, the chosen one ringed: a PNG."""
    from matplotlib.figure import Figure  # 1 s; no pyplot, which keeps figures and looks for a screen

    picture = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    panel = picture.subplots()
    for kind, color in COLORS.items():
        points = [point for point in curve["tried"] if point["kind"] == kind]
        if points:
            panel.scatter(
                [p["p50_ms"] for p in points], [p["recall"] for p in points], color=color, label=kind, alpha=0.7, s=22
            )
    chosen = next(point for point in curve["tried"] if point["is_chosen"])
    panel.scatter(chosen["p50_ms"], chosen["recall"], s=130, facecolors="none", edgecolors=INK, linewidths=1.4)
    panel.annotate(
        chosen["index"], (chosen["p50_ms"], chosen["recall"]), xytext=(8, -14), textcoords="offset points", color=INK
    )
    panel.axhline(curve["min_recall"], color=SOFT, linestyle="--", linewidth=1)
    panel.set_xscale("log")
    panel.set_xlabel("milliseconds per query, alone, median", color=INK)
    panel.set_ylabel(f"recall of the true nearest {curve['recall_of']}", color=INK)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(colors=SOFT)
    panel.legend(frameon=False, loc="lower right")
    picture.savefig(path)
