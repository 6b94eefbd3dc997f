"""Which interaction types a log has: a column of kinds, of ratings, of numbers with a prefix or a sign; or one kind."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from pipeline.contract_infer.guess import Column, percent
from pipeline.contract_infer.hints import AMOUNT, IGNORED, KIND, MEDIUM, NEGATIVE, RATING, STRONG, WEAK

STRENGTHS = ("weak by its name", "between weak and strong", "strong by its name")

Types = dict[str, tuple[float | dict[str, Any], str]]
MAX_TYPES = 20


@dataclass(frozen=True)
class TypesGuess:
    """`types`: name → its value in the contract and why. `column` None: every row is of the one type."""

    column: Column | None
    why: str
    types: Types


def guess_types(columns: Iterable[Column], rows: int) -> TypesGuess:
    """`columns`: those that are no id and no time."""
    able = list(columns)
    kinds = [c for c in able if 2 <= c.distinct <= MAX_TYPES and not c.is_number and _kind_score(c) > 0]
    if kinds:
        return _by_value(max(kinds, key=_kind_score))
    ratings = [c for c in able if c.is_number and 2 <= c.distinct <= MAX_TYPES and c.tokens & RATING]
    if ratings:
        return _by_rating(ratings[0])
    signed = [c for c in able if c.is_number and 0 < c.share(_negative(c)) < 0.4]
    for column in able:
        if guess := _by_prefix(column, signed):
            return guess
    for column in signed:
        if column.tokens & AMOUNT:
            return _by_sign(column)
    return TypesGuess(None, "no column looks like kinds of interactions", {"interaction": (1.0, f"all {rows:,} rows")})


def _kind_score(column: Column) -> float:
    known = column.share(column.matches(f"(?i)({WEAK}|{MEDIUM}|{STRONG}|{NEGATIVE})"))
    return 2 * bool(column.tokens & KIND) + 2 * (known > 0.5)


def _by_value(column: Column) -> TypesGuess:
    """Weights from 0.2 to 1: by what the names say, then by rows, for the rarer says more."""
    counts = dict(column.top(MAX_TYPES))
    role = {name: _role(name) for name in counts}
    if "positive" not in role.values():
        role = dict.fromkeys(counts, "positive")
    positive = sorted((name for name in counts if role[name] == "positive"), key=_strength)  # of equals the rarer last
    types: Types = {}
    for name, count in counts.items():
        shown = f"{count:,} rows ({percent(count, column.filled)})"
        if role[name] == "positive":
            rank = positive.index(name) / max(1, len(positive) - 1) if len(positive) > 1 else 1.0
            types[name] = (round(0.2 + 0.8 * rank, 2), f"{shown}; {STRENGTHS[_strength(name)]}")
        else:
            types[name] = ({"role": role[name]}, f"{shown}; by its name")
    return TypesGuess(column, f"{column.facts()}", types)


def _strength(name: str) -> int:
    matches = [bool(re.search(words, name, re.IGNORECASE)) for words in (STRONG, MEDIUM, WEAK)]
    return 2 if matches[0] else 1 if matches[1] or not matches[2] else 0


def _role(name: str) -> str:
    """Negative words first: `dislike` has `like` in it."""
    if re.search(NEGATIVE, name, re.IGNORECASE):
        return "negative"
    return "ignored" if re.search(IGNORED, name, re.IGNORECASE) else "positive"


def _by_rating(column: Column) -> TypesGuess:
    low, high = np.nanmin(column.numbers), np.nanmax(column.numbers)
    place = (column.numbers - low) / max(high - low, 1e-9)

    def part(mask: np.ndarray) -> tuple[str, int]:
        chosen = np.flatnonzero(mask & (column.counts > 0))
        chosen = chosen[np.argsort(column.numbers[chosen])]
        return "|".join(re.escape(column.values[int(n)].as_py()) for n in chosen), int(column.counts[chosen].sum())

    types: Types = {}
    with np.errstate(invalid="ignore"):
        parts: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "like": (place >= 0.7, {"weight": 1.0}),
            "neutral": ((place >= 0.45) & (place < 0.7), {"weight": 0.3}),
            "dislike": (place < 0.45, {"role": "negative"}),
        }
    for name, (mask, keys) in parts.items():
        pattern, count = part(mask)
        if count:
            types[name] = ({**keys, "pattern": pattern}, f"{count:,} rows ({percent(count, column.filled)})")
    return TypesGuess(
        column, f"ratings from {low:g} to {high:g}: high ones are taken as liked, low ones as disliked", types
    )


def _by_prefix(column: Column, signed: list[Column]) -> TypesGuess | None:
    """Numbers of which a few begin with a letter, where an amount is negative: cancellations, returns."""
    if column.distinct <= MAX_TYPES or column.words > 1.5:
        return None
    found = pc.extract_regex(column.values, r"^(?P<letters>[A-Za-z]*)[-_]?\d+").to_pandas()
    prefixes = found.map(lambda groups: groups["letters"], na_action="ignore")
    if column.share(prefixes.isna().to_numpy()) > 0.01:
        return None
    sums = pd.Series(column.counts).groupby(prefixes.fillna("")).sum().sort_values(ascending=False)
    counts = [(str(prefix), int(count)) for prefix, count in sums.items() if count]
    (main, most), *rest = counts
    if not rest or len(rest) > 5 or most < 0.6 * column.filled:
        return None
    cues = {prefix: _cue(column, prefixes, prefix, main, signed) for prefix, _ in rest}
    if not any(cues.values()):
        return None
    types: Types = {
        "interaction": (
            {"pattern": f"{main}[-_]?\\d.*" if main else r"\d.*"},
            f"{most:,} rows ({percent(most, column.filled)})",
        )
    }
    for prefix, count in rest:
        shown = f"{count:,} rows ({percent(count, column.filled)})"
        cue = cues[prefix]
        role, why = ("negative", f"{cue}: cancelled or returned?") if cue else ("ignored", "few, and not understood")
        types[prefix or "other"] = ({"role": role, "pattern": f"{prefix}.*" if prefix else ".*"}, f"{shown}; {why}")
    starts = ", ".join(repr(prefix) for prefix, _ in rest)
    return TypesGuess(column, f"its numbers begin with {starts} in some rows", types)


def _cue(column: Column, prefixes: pd.Series, prefix: str, main: str, signed: list[Column]) -> str:
    for amount in signed:
        is_negative = _negative(amount)[amount.codes]
        mine, usual = ((prefixes == letters).to_numpy()[column.codes] for letters in (prefix, main))
        if mine.any() and is_negative[mine].mean() > 0.9 and is_negative[usual].mean() < 0.1:
            return f"{amount.name} is negative in {percent(is_negative[mine].sum(), mine.sum())} of them"
    return ""


def _by_sign(column: Column) -> TypesGuess:
    count = int(column.counts[_negative(column)].sum())
    rest = column.filled - count
    return TypesGuess(
        column,
        f"negative in {percent(count, column.filled)} of the rows: taken as returned",
        {
            "taken": ({"pattern": r"[^-].*"}, f"{rest:,} rows ({percent(rest, column.filled)})"),
            "returned": ({"role": "negative", "pattern": "-.*"}, f"{count:,} rows ({percent(count, column.filled)})"),
        },
    )


def _negative(column: Column) -> np.ndarray:
    """[V]"""
    return np.nan_to_num(column.numbers) < 0
