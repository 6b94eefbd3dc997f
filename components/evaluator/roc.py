"""The ranking head's ROC curve, in so few points that a page can draw it."""

import numpy as np

POINTS = 50


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> list[dict[str, float]]:
    """Labels [N] (0 or 1) and scores [N] → at most POINTS + 1 points, from none called positive to all.

    A point says: of those with a score ≥ `threshold`, `recall` is the share of the positives found, and
    `false_positive_rate` that of the negatives called positive. Empty when there is only one class.
    """
    positives = labels.sum()
    negatives = len(labels) - positives
    if not positives or not negatives:
        return []
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]), -1))  # the last of each run of equal scores
    found = np.cumsum(labels[order])[ends]
    wrong = (ends + 1) - found
    chosen = np.unique(np.linspace(0, len(ends) - 1, POINTS).round().astype(int))
    points = [{"threshold": 1.0, "false_positive_rate": 0.0, "recall": 0.0}]
    points += [
        {
            "threshold": float(scores[order][ends[i]]),
            "false_positive_rate": float(wrong[i] / negatives),
            "recall": float(found[i] / positives),
        }
        for i in chosen
    ]
    return points
