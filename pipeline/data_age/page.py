"""What `evergreen data-age` leaves: the picture, the figures, and a page that says in words what to do with them.

write(findings, folder)  →  data_age.png, data_age.json, index.html
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.pages import page_style, templates
from pipeline.data_age.find_out import Findings, cells, figure
from pipeline.data_age.recommendation import Training

INK, SOFT, ACCENT, POPULAR = "#1c2422", "#66716d", "#1f7a55", "#b98a2f"


def write(findings: Findings, folder: Path) -> Path:
    """Writes the three files and returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(findings, folder / "data_age.png")
    (folder / "data_age.json").write_text(json.dumps(to_json(findings), indent=2), encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render(findings), encoding="utf-8")
    return page


def to_json(findings: Findings) -> dict[str, Any]:
    """All figures, with their 95% intervals."""
    judge = findings.judge

    def of(hits: Any) -> dict[str, float]:
        low, high = judge.interval(hits)
        return {judge.metric: round(float(hits.mean()), 5), "low": round(low, 5), "high": round(high, 5)}

    return {
        "span": findings.span,
        "recommendation": asdict(findings.recommendation),
        "trainings": [
            {
                "window_spans": training.window_spans,
                "half_life_days": training.half_life_days,
                "age_spans": training.age_spans,
                "targets": training.targets,
                **of(training.hits),
            }
            for training in findings.trainings
        ],
        "popularity": of(findings.popularity_hits),
        "settings": findings.settings,
    }


def curves(findings: Findings) -> list[tuple[str, list[tuple[str, Training]]]]:
    """Title and (label, training) of each curve; a training may be on several. A curve of one point says nothing."""
    fresh = [t for t in findings.trainings if not t.age_spans]
    fading = sorted((t for t in fresh if t.half_life_days is not None), key=lambda t: -(t.half_life_days or 0))
    aged = [t for t in findings.trainings if t.age_spans]
    whole = [t for t in fresh if t.half_life_days is None]
    largest = whole[-1]
    found = [
        ("window, in spans", [(str(t.window_spans), t) for t in whole]),
        (
            f"half-life in days, window {largest.window_spans}",
            [("none", largest), *((f"{t.half_life_days:g}", t) for t in fading)],
        ),
    ]
    if aged:
        window = aged[0].window_spans
        new = next(t for t in whole if t.window_spans == window)
        found.append((f"age of the model in spans, window {window}", [(str(t.age_spans), t) for t in (new, *aged)]))
    return [(title, points) for title, points in found if len(points) > 1]


def draw(findings: Findings, path: Path) -> None:
    """One panel per curve, on one axis, with the popularity line: a PNG."""
    from matplotlib.figure import Figure  # 1 s; no pyplot, which keeps figures and looks for a screen

    shown = curves(findings)
    picture = Figure(figsize=(4.2 * max(1, len(shown)), 3.6), dpi=120, layout="constrained")
    panels = picture.subplots(1, max(1, len(shown)), sharey=True, squeeze=False)[0]
    for panel, (title, points) in zip(panels, shown, strict=False):
        means = [training.recall for _, training in points]
        bounds = [findings.judge.interval(training.hits) for _, training in points]
        below = [mean - low for mean, (low, _) in zip(means, bounds, strict=True)]
        above = [high - mean for mean, (_, high) in zip(means, bounds, strict=True)]
        places = range(len(points))
        panel.errorbar(places, means, yerr=[below, above], color=ACCENT, marker="o", capsize=3, linewidth=1.6)
        panel.set_xticks(list(places), [label for label, _ in points])
        panel.set_xlabel(title, color=INK)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=SOFT)
        panel.axhline(float(findings.popularity_hits.mean()), color=POPULAR, linestyle="--", linewidth=1.2)
    panels[0].set_ylabel(findings.judge.metric, color=INK)
    panels[0].set_ylim(bottom=0)
    panels[-1].annotate(
        "popularity",
        (1, float(findings.popularity_hits.mean())),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=POPULAR,
        fontsize=9,
    )
    picture.savefig(path)


def render(findings: Findings) -> str:
    """The page as HTML; it shows data_age.png, which stands beside it."""
    rows = [cells(training, findings.judge) for training in findings.trainings]
    rows.append(("popularity", "", "", "", *figure(findings.popularity_hits, findings.judge), ""))
    return (
        templates(Path(__file__).parent)
        .get_template("page.html.j2")
        .render(findings=findings, metric=findings.judge.metric, rows=rows, style=page_style())
    )
