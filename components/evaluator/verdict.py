"""From TFMA's figures to a verdict in words: which metric, which slice, which figure against which bound."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma

from components.evaluator.config import EvaluationConfig

HIGHER_IS_BETTER = ("recall@10", "recall@100", "ndcg@10", "mrr", "auc")
ORDER = (*HIGHER_IS_BETTER, "log_loss", "calibration")


@dataclass(kw_only=True)
class Row:
    """One metric on one slice. Intervals are 95%; `baseline` and `popularity` are None where there is none."""

    slice: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    baseline_low: float | None = None
    baseline_high: float | None = None
    popularity: float | None = None
    bound: str | None = None  # the strictest that it must reach
    passed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the new model may be pushed, and why, one sentence per bound."""

    is_blessed: bool
    sentences: list[str]
    rows: list[Row]
    num_examples: int
    baseline_version: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is saved beside TFMA's results, and in the registry."""
        overall = {row.metric: row.value for row in self.rows if row.slice == "overall"}
        return {**asdict(self), "metrics": overall, "examples": {"overall": self.num_examples}}


Intervals = dict[tuple[str, str, str], tuple[float, float]]


def read_verdict(
    output_path: Path,
    num_examples: int,
    config: EvaluationConfig,
    intervals: Intervals,
    one_class: Collection[str] = (),
) -> Verdict:
    """Reads TFMA's metrics below `output_path` and judges them; `intervals` by (slice, model, metric).

    In the slices `one_class` all interactions are of the strongest type, or none is: TFMA calls their AUC 0, which is
    no figure. Nor is a metric that is not a number, such as the calibration of no positives.
    """
    figures: dict[tuple[str, str, str], float] = {}
    for result in tfma.load_metrics(str(output_path)):
        name = (
            ", ".join(f"{k.column}={k.bytes_value.decode()}" for k in result.slice_key.single_slice_keys) or "overall"
        )
        for pair in result.metric_keys_and_values:
            value = pair.value.double_value.value
            is_figure = math.isfinite(value) and not (pair.key.name == "auc" and name in one_class)
            if is_figure and not pair.key.is_diff and pair.value.HasField("double_value"):
                figures[name, pair.key.model_name, pair.key.name] = value
    slices = sorted({name for name, _, _ in figures}, key=lambda name: (name != "overall", name))
    rows = []
    for name in slices:
        for metric in ORDER:
            if (name, "new", metric) not in figures:
                continue
            low, high = intervals.get((name, "new", metric), (None, None))
            baseline_low, baseline_high = intervals.get((name, "baseline", metric), (None, None))
            rows.append(
                Row(
                    slice=name,
                    metric=metric,
                    value=figures[name, "new", metric],
                    low=low,
                    high=high,
                    baseline=figures.get((name, "baseline", metric)),
                    baseline_low=baseline_low,
                    baseline_high=baseline_high,
                    popularity=figures.get((name, "popularity", metric)),
                )
            )
    return judge(rows, num_examples, config)


def judge(rows: list[Row], num_examples: int, config: EvaluationConfig) -> Verdict:
    """Applies the bounds to the overall rows (and marks them), strictest first. Without a figure, none is applied."""
    overall = {row.metric: row for row in rows if row.slice == "overall"}
    for where, names in (("floors", config.floors), ("max_drop", config.max_drop)):
        if unknown := sorted(set(names) - set(HIGHER_IS_BETTER)):
            raise ValueError(f"evaluation.{where} names {unknown}; a bound can be set on {list(HIGHER_IS_BETTER)}")
    not_checked = [
        f"{metric} overall has no figure: the held-out interactions do not differ in it; its bound was not applied"
        for metric in HIGHER_IS_BETTER
        if metric in {*config.floors, *config.max_drop} - set(overall)
    ]
    checks: list[tuple[Row, float, str]] = []
    for metric, floor in config.floors.items():
        if metric in overall:
            checks.append((overall[metric], floor, f"the floor {floor:.4f}"))
    popular = overall["recall@100"]
    if popular.popularity is not None and config.min_lift_over_popularity:
        bound = config.min_lift_over_popularity * popular.popularity
        checks.append((popular, bound, f"{config.min_lift_over_popularity:g} × popularity ({popular.popularity:.4f})"))
    for metric, drop in config.max_drop.items():
        row = overall.get(metric)
        if row is not None and row.baseline is not None:
            bound = (1.0 - drop) * row.baseline
            checks.append((row, bound, f"{bound:.4f} (production's {row.baseline:.4f} less {drop:.0%})"))
    reached: list[str] = []
    missed: list[str] = []
    for row, bound, words in checks:
        has_passed = row.value >= bound
        row.passed = has_passed and row.passed is not False
        row.bound = f"≥ {max(b for r, b, _ in checks if r is row):.4f}"
        interval = f" [{row.low:.4f}, {row.high:.4f}]" if row.low is not None else ""
        sentence = f"{row.metric} overall is {row.value:.4f}{interval}: {'reaches' if has_passed else 'misses'} {words}"
        (reached if has_passed else missed).append(sentence)
    return Verdict(
        is_blessed=not missed, sentences=missed + not_checked + reached, rows=rows, num_examples=num_examples
    )
