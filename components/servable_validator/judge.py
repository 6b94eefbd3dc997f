"""What is wrong with an answer, in words: arrays in, sentences out; an empty list means that nothing is.

B requests, K places, D dimensions. Strings are bytes; `b""` marks a place without an item.
"""

from collections.abc import Iterable

import numpy as np

Answer = dict[str, np.ndarray]

TOLERANCE = 1e-5  # between gRPC and REST: JSON carries float32 in decimal


def wrong_shapes(answer: Answer, expected: dict[str, tuple[int, ...]]) -> list[str]:
    """Outputs that are missing or not of the shape that the signature promises."""
    wrong = []
    for name, shape in expected.items():
        if name not in answer:
            wrong.append(f"no output {name!r}; it has {sorted(answer)}")
        elif answer[name].shape != shape:
            wrong.append(f"{name} has shape {list(answer[name].shape)}; expected {list(shape)}")
    return wrong


def wrong_list(
    item_ids: np.ndarray, scores: np.ndarray, who: str, *, is_full: bool, is_ordered: bool = True
) -> list[str]:
    """One ranked list, [K] and [K]: items before empty places, none twice, finite scores.

    `is_full` wants an item in every place; else one item is enough. `is_ordered` wants scores that never increase.
    """
    is_item = item_ids != b""
    count = int(is_item.sum())
    if not count:
        return [f"{who} gets no item"]
    items, item_scores, wrong = item_ids[is_item].tolist(), scores[is_item], []
    if is_full and count < len(item_ids):
        wrong.append(f"{who} gets {count} items; expected {len(item_ids)}")
    if not is_item[:count].all():
        wrong.append(f"{who} gets an empty place before an item")
    if twice := sorted({item.decode(errors="replace") for item in items if items.count(item) > 1}):
        wrong.append(f"{who} gets {', '.join(twice[:3])} more than once")
    if not np.isfinite(item_scores).all():
        wrong.append(f"{who} gets a score that is not finite")
    elif is_ordered and (np.diff(item_scores) > 0).any():
        wrong.append(f"the scores of {who} increase")
    return wrong


def wrong_items(item_ids: np.ndarray, unwanted: Iterable[bytes], what: str) -> list[str]:
    """Items of one list [K] that must not stand in it."""
    found = sorted(item.decode(errors="replace") for item in set(item_ids.tolist()) & set(unwanted))
    return [f"{', '.join(found)} came back, {what}"] if found else []


def wrong_embeddings(embeddings: np.ndarray) -> list[str]:
    """[B, D] that is not finite or zero throughout."""
    wrong = []
    if not np.isfinite(embeddings).all():
        wrong.append("an embedding is not finite")
    elif not embeddings.any():
        wrong.append("every embedding is zero")
    return wrong


def wrong_ranks(scores: np.ndarray, unknown: int) -> list[str]:
    """Scores [N] of one user, of which the one at `unknown` is of an item that does not exist."""
    known = np.delete(scores, unknown)
    if not np.isfinite(known).all():
        return ["the score of a known item is not finite"]
    if np.isnan(scores[unknown]) or scores[unknown] > known.min():
        return [f"an unknown item scores {scores[unknown]:g}; expected no more than the lowest, {known.min():g}"]
    return []


def differences(one: Answer, other: Answer) -> list[str]:
    """Outputs that differ: strings at all, numbers by more than 1e-5 (absolute, and relative to their size)."""
    if set(one) != set(other):
        return [f"outputs {sorted(one)} against {sorted(other)}"]
    return [name for name in sorted(one) if not _is_same(one[name], other[name])]


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool((one == other).all())
