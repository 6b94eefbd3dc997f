"""Sequences in memory, end to end and without padding, and the parts of them that batches are made of. No TensorFlow.

A part is a stretch of one sequence; some of its first positions may be there to be known only, not to be learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainer.features import IS_TARGET_KEY, TIMESTAMPS_KEY

NEVER = np.iinfo(np.int64).max  # the time of a position that is padding: it is never history
PIECE_HISTORIES = 4  # length of a piece of a long sequence, in histories: 4/3 of the positions are read, not twice


@dataclass(frozen=True, kw_only=True)
class SequenceTable:
    """U sequences with P positions together, each sequence oldest first.

    starts     [U + 1] where each begins; the last is P
    positions  name → [P], as in a batch (trainer.inputs)
    users      name → [U], [U, V] or [U, dim]
    """

    starts: np.ndarray
    positions: Mapping[str, np.ndarray]
    users: Mapping[str, np.ndarray]

    @property
    def owners(self) -> np.ndarray:
        """Which sequence each position belongs to: [P]."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def in_new_order(self, rng: np.random.Generator) -> "SequenceTable":
        """What the next epoch learns from: these, for what was done in an order is learned in it."""
        return self

    def padded(self, parts: "Parts") -> dict[str, np.ndarray]:
        """A batch of B parts: positions [B, L], users [B, …]. Padding is 0, its time NEVER."""
        place = parts.start[:, np.newaxis] + np.arange(np.max(parts.end - parts.start, initial=0))
        is_there = place < parts.end[:, np.newaxis]
        place = np.where(is_there, place, 0)
        batch = {
            name: np.where(is_there, values[place], NEVER if name == TIMESTAMPS_KEY else values.dtype.type(0))
            for name, values in self.positions.items()
        }
        batch[IS_TARGET_KEY] &= place >= parts.own[:, np.newaxis]
        return batch | {name: values[parts.owner] for name, values in self.users.items()}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts of sequences, W of them. All [W] and, but the owner, places among the P positions.

    owner       whose sequence
    start, end  from which place up to which, `end` not among them
    own         from where its targets are its own: those before are another part's
    """

    owner: np.ndarray
    start: np.ndarray
    own: np.ndarray
    end: np.ndarray

    def __getitem__(self, chosen: np.ndarray | slice) -> "Parts":
        return Parts(owner=self.owner[chosen], start=self.start[chosen], own=self.own[chosen], end=self.end[chosen])

    def __len__(self) -> int:
        return len(self.owner)


def whole(sequences: SequenceTable) -> Parts:
    """Every sequence as it is."""
    starts = sequences.starts
    return Parts(owner=np.arange(len(starts) - 1), start=starts[:-1], own=starts[:-1], end=starts[1:])


def windows(sequences: SequenceTable, max_history: int, rng: np.random.Generator) -> Parts:
    """Parts of at most H + 1 positions, cut at random places, that hold each target once.

    A cut takes from the first targets after it what is before it, so that over the epochs a target is learned from more
    and from less of its history, and a long user is spread over many batches. A window with fewer than H positions of
    its own is filled up with those before. What is no longer than a window stays whole.
    """
    lengths = np.diff(sequences.starts)
    first = np.where(lengths <= max_history + 1, lengths, rng.integers(1, max_history + 1, len(lengths)))
    owner, n = _numbered(1 - (first - lengths) // max_history)
    end = np.minimum(first[owner] + n * max_history, lengths[owner])
    own = np.where(n == 0, 0, first[owner] + (n - 1) * max_history)
    return _with_targets(sequences, owner, np.maximum(end - max_history - 1, 0), own, end)


def pieces(sequences: SequenceTable, max_history: int) -> Parts:
    """Parts of at most 4 H positions that hold each target once, and the whole of its history: the H positions before.

    So a sequence costs what it is long, not its square.
    """
    lengths = np.diff(sequences.starts)
    step = (PIECE_HISTORIES - 1) * max_history
    owner, n = _numbered(-(-np.maximum(lengths - max_history, 1) // step))
    start = n * step
    end = np.minimum(start + PIECE_HISTORIES * max_history, lengths[owner])
    return _with_targets(sequences, owner, start, np.where(n == 0, 0, start + max_history), end)


def _numbered(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So many for each: which each belongs to, and its number there: [U] → [W], [W] from 0."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def _with_targets(
    sequences: SequenceTable, owner: np.ndarray, start: np.ndarray, own: np.ndarray, end: np.ndarray
) -> Parts:
    """Those that have a target of their own; places are counted from their sequence's first."""
    begin = sequences.starts[owner]
    parts = Parts(owner=owner, start=begin + start, own=begin + own, end=begin + end)
    before = np.append(0, np.cumsum(sequences.positions[IS_TARGET_KEY]))
    return parts[before[parts.end] > before[parts.own]]


def dealt(lengths: np.ndarray, longest: int, positions: int, at_least: int = 1) -> list[np.ndarray]:
    """W lengths in batches of about one length, each of at most `positions` with its padding, and of `at_least` parts.

    Bounds of a batch's lengths are √2 apart. What does not fill a batch goes to the next longer ones, so that no more
    than one batch is small.
    """
    bounds = np.unique(np.minimum((2 * 2 ** (np.arange(80) / 2)).astype(np.int64), longest))
    bound_of = np.searchsorted(bounds, lengths)
    batches: list[np.ndarray] = []
    rest = np.zeros(0, np.int64)
    for n, bound in enumerate(bounds):
        rest = np.append(rest, np.flatnonzero(bound_of == n))
        size = max(at_least, positions // int(bound))
        full = len(rest) // size * size
        batches += list(rest[:full].reshape(-1, size))
        rest = rest[full:]
    return [*batches, rest] if len(rest) else batches
