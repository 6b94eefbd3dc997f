"""What a column is, judged by its values: a time and how it is written, a feature and of which type, words, numbers."""

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen.columns import PER_SECOND, Coded, as_numbers, as_ticks, is_blank
from components.interaction_example_gen.contract import InteractionsContract
from pipeline.contract_infer import hints

DATES = ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%Y%m%d")
CLOCKS = (" %H:%M:%S", " %H:%M", "T%H:%M:%S", "")
OTHERS = ("%Y%m%d%H%M%S", "%d/%m/%y %H:%M", "%m/%d/%y %H:%M", "%a %b %d %H:%M:%S %Y")
PATTERNS = (*(f"{date}{clock}" for clock in CLOCKS for date in DATES), *OTHERS)
ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?$"
ZONE = r"(Z|[+-]\d{2}:?\d{2})$"
EARLIEST_SECONDS = datetime(1990, 1, 1, tzinfo=timezone.utc).timestamp()  # logs are younger
LATEST_SECONDS = datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp()
MOST = 0.95  # of the filled values: what a column is, apart from a few odd ones
MAX_CATEGORIES = 200  # a category beyond it is text, or an id
VECTOR_FROM = 8  # numbers in one text value: fewer are a list of something


@dataclass(frozen=True)
class TimeGuess:
    """How a column's times are written: contract keys, and which part of the values reads so."""

    keys: dict[str, str]
    share: float
    why: str
    seconds: np.ndarray  # [V] of each value, since 1970; NaN where it is none
    needs_zone: bool = False  # neither the text nor the unit says it


@dataclass(frozen=True)
class FeatureGuess:
    """`keys` of a feature beside its name; None: of no use, `why` says it."""

    keys: dict[str, str | int] | None
    why: str


class Column:
    """A column [N] with its values [V], each with the number of its rows."""

    def __init__(self, name: str, coded: Coded, *, is_native_time: bool = False) -> None:
        self.name = name
        self.codes, self.values, self.is_native_time = coded.codes, coded.values, is_native_time
        self.rows = len(coded.codes)
        self.blank = is_blank(coded.values)

    @cached_property
    def counts(self) -> np.ndarray:
        """[V] rows of each value, 0 of blank ones."""
        return np.where(self.blank, 0, np.bincount(self.codes, minlength=len(self.values)))

    @cached_property
    def filled(self) -> int:
        return int(self.counts.sum())

    @property
    def empty(self) -> int:
        return self.rows - self.filled

    @cached_property
    def distinct(self) -> int:
        return int(np.count_nonzero(self.counts))

    @cached_property
    def numbers(self) -> np.ndarray:
        """[V], NaN where the value is no number."""
        return as_numbers(self.values)

    def share(self, of_values: np.ndarray) -> float:
        """Which part of the filled rows has the property [V] of values."""
        return float(self.counts[of_values].sum() / max(1, self.filled))

    def matches(self, pattern: str) -> np.ndarray:
        """[V]: the pattern is found in the value."""
        return pc.match_substring_regex(self.values, pattern).to_numpy(zero_copy_only=False)

    @cached_property
    def is_number(self) -> bool:
        return self.filled > 0 and self.share(np.isfinite(self.numbers)) >= MOST

    @cached_property
    def is_whole_number(self) -> bool:
        with np.errstate(invalid="ignore"):
            return self.is_number and self.share(self.numbers == np.round(self.numbers)) >= MOST

    @cached_property
    def words(self) -> float:
        """In a value, on average over values."""
        counts = pc.add(pc.count_substring_regex(pc.utf8_trim_whitespace(self.values), r"\s+"), 1).to_numpy()
        return float(counts[self.counts > 0].mean()) if self.distinct else 0.0

    @cached_property
    def tokens(self) -> frozenset[str]:
        return hints.tokens(self.name)

    @cached_property
    def time(self) -> TimeGuess | None:
        return guess_time(self)

    def top(self, number: int) -> list[tuple[str, int]]:
        """The most frequent values with their rows."""
        order = np.argsort(-self.counts, kind="stable")[:number]
        return [(self.values[int(n)].as_py(), int(self.counts[n])) for n in order if self.counts[n]]

    def facts(self) -> str:
        """4,372 distinct values in 406,829 rows; 25% empty."""
        text = f"{self.distinct:,} distinct value{'s' * (self.distinct != 1)} in {self.filled:,} rows"
        return f"{text}; {percent(self.empty, self.rows)} empty" if self.empty else text


def percent(part: int | float, whole: int | float) -> str:
    """As a person would round it: 25%, 0.4%, <0.1%."""
    share = 100 * part / max(1, whole)
    return f"{share:.0f}%" if share >= 10 else "<0.1%" if 0 < share < 0.1 else f"{share:.1f}%"


def guess_time(column: Column) -> TimeGuess | None:
    """How the column's times are written; None when they are no times.

    Day first and month first are told apart by which reads more values; when both read all, by which puts
    them into fewer days: true dates stand close together.
    """
    values = column.values
    if not column.filled:
        return None
    if column.is_native_time or column.share(column.matches(ISO)) >= MOST:
        zoned = column.share(column.matches(ZONE) & column.matches(":"))
        why = "the file's own time type" if column.is_native_time else f"such as {column.top(1)[0][0]!r}"
        why += "; with a zone" if zoned >= MOST else "; without a zone"
        return _time(column, {"timestamp_unit": "iso8601"}, why, needs_zone=zoned < MOST)
    if column.is_number and column.share(~np.isnan(column.numbers) & (column.numbers > EARLIEST_SECONDS)) >= MOST:
        for unit, per_second in PER_SECOND.items():
            seconds = column.numbers / per_second
            if column.share((seconds >= EARLIEST_SECONDS) & (seconds < LATEST_SECONDS)) >= MOST:
                return _time(column, {"timestamp_unit": unit}, f"numbers that are {unit} since 1970")
    few = Coded(np.arange(min(len(values), 5_000)), values.slice(0, 5_000))
    sample = Column(column.name, few)
    likely = [p for p in PATTERNS if sample.share(np.isfinite(_seconds(sample, {"timestamp_pattern": p}))) >= MOST]
    why = f"such as {column.top(1)[0][0]!r}"
    guesses = [_time(column, {"timestamp_pattern": pattern}, why, needs_zone=True) for pattern in likely]
    plausible = [
        guess
        for guess in guesses
        if guess.share >= MOST
        and column.share((guess.seconds >= EARLIEST_SECONDS) & (guess.seconds < LATEST_SECONDS)) >= MOST
    ]
    if not plausible:
        return None
    best = min(plausible, key=lambda guess: (-round(guess.share, 3), _days(guess)))
    if other := next((g for g in plausible if g is not best and _is_swapped(g, best)), None):
        why += f"; {other.keys['timestamp_pattern']!r} reads {percent(other.share, 1)} of the values too"
        return _time(column, best.keys, f"{why}, as {_days(other):,} days instead of {_days(best):,}", needs_zone=True)
    return best


def guess_feature(column: Column, nested: pa.Array | None = None) -> FeatureGuess:
    """Which type of feature the column is."""
    if nested is not None:
        return _guess_list(nested)
    if column.distinct < 2:
        return FeatureGuess(None, f"the same in all rows ({column.facts()})")
    if not column.is_number and column.time:
        return FeatureGuess(
            None, f"a time ({column.time.why}), which is no feature; write what matters of it, such as its year"
        )
    if column.is_number:
        if column.is_whole_number and column.distinct <= 10:
            return FeatureGuess({"type": "category"}, f"{column.facts()}: few numbers are likely codes")
        low, high = np.nanmin(column.numbers), np.nanmax(column.numbers)
        if column.is_whole_number and column.distinct == column.filled and column.distinct > 20:
            return FeatureGuess(None, f"a number of its own in every row ({low:g} to {high:g}): an id")
        return FeatureGuess({"type": "number"}, f"{column.facts()}, {low:g} to {high:g}")
    if guess := _guess_vector(column) or _guess_categories(column):
        return guess
    if column.words >= 2 and column.distinct > min(20, 0.5 * column.filled):
        return FeatureGuess({"type": "text"}, f"{column.facts()}, {column.words:.1f} words each")
    if column.distinct > max(MAX_CATEGORIES, 0.5 * column.filled) or (column.distinct == column.filled > 20):
        return FeatureGuess(None, f"{column.facts()}, without words: such as {column.top(1)[0][0]!r}")
    shown = ", ".join(f"{value} ({count:,})" for value, count in column.top(3))
    return FeatureGuess({"type": "category"}, f"{column.facts()}: {shown}" + (", …" if column.distinct > 3 else ""))


def odd_ids(column: Column) -> str:
    """Ids that are written unlike nearly all others: perhaps no items, but postage and fees."""
    shapes = pc.replace_substring_regex(pc.replace_substring_regex(column.values, r"\d+", "9"), "[A-Za-z]+", "A")
    shape = shapes.to_numpy(zero_copy_only=False)
    _forms, place = np.unique(shape.astype(str), return_inverse=True)
    rows = np.bincount(place, weights=column.counts)
    common = rows[place] >= 0.01 * column.filled
    odd = np.flatnonzero(~common & (column.counts > 0))
    if not len(odd) or column.counts[odd].sum() > 0.05 * column.filled:
        return ""
    shown = [
        f"{column.values[int(n)].as_py()!r} ({column.counts[n]:,})" for n in odd[np.argsort(-column.counts[odd])][:6]
    ]
    return f". {len(odd)} ids are written unlike the others: {', '.join(shown)}; drop those that are no items"


def _guess_vector(column: Column) -> FeatureGuess | None:
    for separator in (" ", ",", ";", "|"):
        counts = pc.add(pc.count_substring(column.values, separator), 1).to_numpy()
        dim = int(np.median(counts[column.counts > 0]))
        if dim < VECTOR_FROM or column.share(counts == dim) < MOST:
            continue
        first = pc.split_pattern(column.values.filter(pa.array((counts == dim) & (column.counts > 0))), separator)
        if np.isfinite(as_numbers(pc.list_flatten(first.slice(0, 100)))).all():
            keys: dict[str, str | int] = {"type": "vector", "separator": separator, "dim": dim}
            return FeatureGuess(keys, f"{dim} numbers in each value")
    return None


def _guess_categories(column: Column) -> FeatureGuess | None:
    """Several values in one: far fewer parts than values, each part seen again and again."""
    if column.share(column.matches("://")) > 0.5:
        return None
    for separator in ("|", ";", ",", "/"):
        several = pc.greater(pc.count_substring(column.values, separator), 0).to_numpy(zero_copy_only=False)
        share = column.share(several)
        if share < 0.1:
            continue
        parts = pc.utf8_trim_whitespace(
            pc.list_flatten(pc.split_pattern(column.values.filter(pa.array(column.counts > 0)), separator))
        )
        different = len(pc.unique(parts))
        words = pc.mean(pc.count_substring(parts, " ")).as_py() + 1
        if (2 * different < len(parts) or separator == "|") and words < 3:
            keys: dict[str, str | int] = {"type": "categories", "separator": separator}
            return FeatureGuess(
                keys, f"{percent(share, 1)} of the values have {separator!r}; {different:,} different parts"
            )
    return None


def _guess_list(nested: pa.Array) -> FeatureGuess:
    lengths = pc.list_value_length(nested).fill_null(0).to_numpy()
    flat = pc.list_flatten(nested)
    filled = lengths[lengths > 0]
    if len(filled) and len(set(filled)) == 1 and filled[0] > 1:
        text = flat.cast(pa.string()) if not pa.types.is_floating(flat.type) else flat
        if np.isfinite(as_numbers(text)).all():
            return FeatureGuess({"type": "vector", "dim": int(filled[0])}, f"lists of {filled[0]} numbers")
    if not len(flat) or pa.types.is_nested(flat.type):
        return FeatureGuess(None, "lists without values" if not len(flat) else "lists of lists")
    return FeatureGuess({"type": "categories"}, f"lists; {len(pc.unique(flat)):,} different values")


def _time(column: Column, keys: dict[str, str], why: str, *, needs_zone: bool = False) -> TimeGuess:
    seconds = _seconds(column, keys)
    return TimeGuess(keys, column.share(np.isfinite(seconds)), why, seconds, needs_zone)


def _seconds(column: Column, keys: dict[str, str]) -> np.ndarray:
    """[V], as the pipeline itself would read them."""
    contract = InteractionsContract(types={"any": 1.0}, **keys)  # type: ignore[arg-type]  # pydantic checks
    return as_ticks(column.values, contract) / PER_SECOND.get(contract.timestamp_unit, 1)


def _days(guess: TimeGuess) -> int:
    """From the first to the last."""
    return 1 + int(np.nanmax(guess.seconds) // 86_400 - np.nanmin(guess.seconds) // 86_400)


def _is_swapped(one: TimeGuess, other: TimeGuess) -> bool:
    swapped = one.keys["timestamp_pattern"].replace("%d", "%%").replace("%m", "%d").replace("%%", "%m")
    return swapped == other.keys["timestamp_pattern"]
