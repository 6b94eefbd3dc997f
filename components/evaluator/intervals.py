"""Confidence intervals of the metrics, by a bootstrap over users.

Interactions of one user resemble each other, so resampling examples would claim more certainty than there is: whole
users are drawn with replacement (the cluster bootstrap, Field & Welsh 2007). TFMA's own intervals (jackknife, Poisson
bootstrap) resample examples, and took ten times as long as all else it does (docs/decisions).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

Interval = tuple[float, float]
MEANS = ("recall@10", "recall@100", "ndcg@10", "mrr")


def intervals(
    table: pd.DataFrame, models: list[str], slices: dict[str, np.ndarray], resamples: int, seed: int = 1
) -> dict[tuple[str, str, str], Interval]:
    """95% intervals by (slice, model, metric).

    `table` has one row per example with `user_id`, `<model>_rank`, `is_strongest` and, where the model ranks,
    `<model>_strongest`; `slices` are masks [E]; `resamples` of 0 gives no intervals.
    """
    if not resamples:
        return {}
    weights = draw_users(table["user_id"], resamples, seed)
    found = {}
    for model in models:
        values = rank_values(table[f"{model}_rank"].to_numpy())
        for name, mask in slices.items():
            chosen = weights[:, mask]
            total = chosen.sum(axis=1)
            for metric in MEANS:
                found[name, model, metric] = _percentiles(chosen @ values[metric][mask], total)
            if f"{model}_strongest" in table:
                label = table["is_strongest"].to_numpy()[mask]
                chance = table[f"{model}_strongest"].to_numpy()[mask]
                loss = -np.log(np.clip(np.where(label > 0, chance, 1.0 - chance), 1e-7, 1.0))
                found[name, model, "log_loss"] = _percentiles(chosen @ loss, total)
                found[name, model, "calibration"] = _percentiles(chosen @ chance, chosen @ label)
                found[name, model, "auc"] = _percentiles(*weighted_auc(chosen, label, chance))
    return found


def draw_users(user_ids: Sequence[bytes] | np.ndarray | pd.Series, resamples: int, seed: int = 1) -> np.ndarray:
    """How often each example counts in each resample, as often as its user was drawn: [E] → float32 [R, E]."""
    users, owner = np.unique(user_ids, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(users), np.full(len(users), 1.0 / len(users)), size=resamples)
    return draws[:, owner].astype(np.float32)


def rank_values(rank: np.ndarray) -> dict[str, np.ndarray]:
    """What each rank is worth under each mean metric: [E] → metric → [E]."""
    gain = 1.0 / np.log2(rank + 1.0)
    return {
        "recall@10": (rank <= 10).astype(np.float32),
        "recall@100": (rank <= 100).astype(np.float32),
        "ndcg@10": np.where(rank <= 10, gain, 0.0).astype(np.float32),
        "mrr": (1.0 / rank).astype(np.float32),
    }


def weighted_auc(weights: np.ndarray, label: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of the AUC of each resample: weights [R, E], labels and chances [E] → [R], [R].

    The share of (positive, negative) pairs in the right order (Mann-Whitney).
    """
    order = np.argsort(chance, kind="stable")
    positive, negative = weights[:, order] * label[order], weights[:, order] * (1.0 - label[order])
    below = np.cumsum(negative, axis=1, dtype=np.float64)
    return (positive * below).sum(axis=1), positive.sum(axis=1, dtype=np.float64) * below[:, -1]


def _percentiles(numerator: np.ndarray, denominator: np.ndarray) -> Interval:
    """The middle 95% of the resamples in which the metric is defined."""
    drawn = denominator > 0
    if not drawn.any():
        return float("nan"), float("nan")
    low, high = np.percentile(numerator[drawn] / denominator[drawn], [2.5, 97.5])
    return float(low), float(high)
