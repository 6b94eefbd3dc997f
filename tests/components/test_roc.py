"""The ROC curve against the definition, counted by hand and by pairs."""

import numpy as np
import pytest

from components.evaluator.roc import POINTS, roc_curve


def area(points: list[dict[str, float]]) -> float:
    return float(np.trapz([p["recall"] for p in points], [p["false_positive_rate"] for p in points]))


def test_each_point_counts_what_is_at_or_above_its_threshold() -> None:
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.8, 0.1])
    # ≥ .9: one of two positives. ≥ .8: both, and one of two negatives (a tie is one step). ≥ .1: everything.
    assert roc_curve(labels, scores) == [
        {"threshold": 1.0, "false_positive_rate": 0.0, "recall": 0.0},
        {"threshold": 0.9, "false_positive_rate": 0.0, "recall": 0.5},
        {"threshold": 0.8, "false_positive_rate": 0.5, "recall": 1.0},
        {"threshold": 0.1, "false_positive_rate": 1.0, "recall": 1.0},
    ]


def test_its_area_is_the_share_of_pairs_in_the_right_order() -> None:
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, 3000)
    scores = chance.normal(size=3000) + labels
    positives, negatives = scores[labels == 1], scores[labels == 0]
    pairs = (positives[:, None] > negatives).mean()  # Hanley & McNeil 1982
    points = roc_curve(labels, scores)
    assert len(points) == POINTS + 1
    assert area(points) == pytest.approx(pairs, abs=5e-3)
    assert (points[-1]["false_positive_rate"], points[-1]["recall"]) == (1.0, 1.0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_curve(label: int) -> None:
    assert roc_curve(np.full(5, label), np.arange(5.0)) == []
