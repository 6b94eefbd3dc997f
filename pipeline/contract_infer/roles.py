"""Which files are the log, the catalog and the users, and which columns are user, item and time: judged by scores.

Header words are a hint beside what the values say: how many there are, how often each comes back, at how many times.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import DataError
from pipeline.contract_infer import hints
from pipeline.contract_infer.guess import Column, TimeGuess, percent
from pipeline.contract_infer.sample import Found, Sample

FEW = 20  # values of an id
LINKED = 0.3  # of the log's rows whose id another set has


@dataclass(kw_only=True)
class Link:
    """A set of files that describes ids of the log."""

    sample: Sample
    id: Column
    coverage: float  # of the log's rows
    score: float


@dataclass(kw_only=True)
class Roles:
    """What is what. `why_*` are sentences for the comments; catalog None: the log describes its items itself."""

    log: Sample
    columns: dict[str, Column]
    user: Column
    item: Column
    time: Column
    catalog: Link | None
    users: Link | None
    seconds: np.ndarray  # [N] of the log's rows
    why: dict[str, str]
    unused: list[Sample] = field(default_factory=list)

    def times_of_files(self) -> list[tuple[float, float]]:
        """The first and the last event in each of the log's files; NaN where none is known."""
        log, seconds = self.log, self.seconds
        place = {file.name: n for n, file in enumerate(log.looked_at)}
        first, last = np.full(len(place), np.inf), np.full(len(place), -np.inf)
        known = np.isfinite(seconds)
        np.minimum.at(first, log.of_file[known], seconds[known])
        np.maximum.at(last, log.of_file[known], seconds[known])
        bounds = np.where(np.isfinite(first) & np.isfinite(last), [first, last], np.nan)
        return [tuple(bounds[:, place[f.name]]) if f.name in place else (np.nan, np.nan) for f in log.files]

    def from_to(self) -> str:
        """In words, as the log's clock has it."""
        known = self.seconds[np.isfinite(self.seconds)]
        first, last = (np.datetime64(int(moment), "s") for moment in (known.min(), known.max()))
        return f"{first} to {last}".replace("T", " ")

    def busiest_hour(self) -> int:
        """The most rows that a user has in one hour."""
        known = np.isfinite(self.seconds) & ~self.user.blank[self.user.codes]
        hours = (self.seconds[known] // 3_600).astype(np.int64)
        pairs = hours * len(self.user.values) + self.user.codes[known]
        return int(np.unique(pairs, return_counts=True)[1].max(initial=0))


def columns_of(sample: Sample) -> dict[str, Column]:
    """Columns with one value per row."""
    return {
        name: Column(name, sample.coded[name], is_native_time=name in sample.native_times)
        for name in sample.columns
        if name in sample.coded
    }


def find_roles(found: Found) -> Roles:
    """Raises DataError when no files have a time and two columns of ids: there is no log."""
    table = [(sample, columns_of(sample)) for sample in found.samples]
    timed = [(sample, columns, times) for sample, columns in table if (times := _times(columns))]
    logs = [entry for entry in timed if len(entry[1]) >= 3]
    if not logs:
        seen = "; ".join(f"{sample.name}: {', '.join(sample.columns)}" for sample, _ in table)
        raise DataError(
            f"no files look like an interaction log, which has a user, an item and a time in each row; found {seen}. "
            "Name the log's files, or write its times as ISO 8601 or as seconds since 1970"
        )
    log, columns, times = max(logs, key=lambda entry: _log_score(entry[0], entry[1].values()))
    time, guess = times[0]
    seconds = guess.seconds[time.codes]
    others = [(sample, of) for sample, of in table if sample is not log]
    links = {name: _links(log, column, others) for name, column in columns.items() if column is not time}
    user, item, why = _ids(columns, time, seconds, links)
    catalog = max(links[item.name], key=lambda link: link.score, default=None)
    users = max(links[user.name], key=lambda link: link.score, default=None)
    if catalog and users and catalog.sample is users.sample:
        catalog, users = (catalog, None) if catalog.score >= users.score else (None, users)
    why["time"] = f"{guess.why}; {time.facts()}"
    if len(times) > 1:
        why["time"] += f"; {', '.join(column.name for column, _ in times[1:])} would read as a time too"
    taken = [log, *(link.sample for link in (catalog, users) if link)]
    unused = [sample for sample in found.samples if not any(sample is one for one in taken)]
    return Roles(
        log=log, columns=columns, user=user, item=item, time=time, catalog=catalog, users=users, seconds=seconds,
        why=why, unused=unused,
    )  # fmt: skip


def looks_like_title(column: Column) -> bool:
    """What people read: words, and many different ones."""
    named = bool(column.tokens & hints.TITLE)
    return not column.is_number and column.time is None and (column.words >= 1.5 or named) and column.distinct > 1


def depends_on(column: Column, key: Column) -> tuple[float, str]:
    """How far the key says what `column` is, from 0 (not at all) to 1, and that in words: of keys that come twice.

    Numbers: the share of the variance of their ranks between keys. Else: the share of rows that have their key's most
    frequent value, above the share that the most frequent value of all has anyway.
    """
    filled = ~key.blank[key.codes] & ~column.blank[column.codes]
    again = filled & (np.bincount(key.codes[filled], minlength=len(key.values)) > 1)[key.codes]
    if not again.any() or column.distinct < 2:
        return 0.0, ""
    keys, codes = key.codes[again], column.codes[again]
    if column.is_number and column.distinct > 20:
        ranks = pd.Series(column.numbers).rank().to_numpy()[codes]
        keys, ranks = keys[np.isfinite(ranks)], ranks[np.isfinite(ranks)]
        totals, sums = np.bincount(keys), np.bincount(keys, weights=ranks)
        means = sums / np.maximum(1, totals)
        between = float(((means[keys] - ranks.mean()) ** 2).sum() / max(1e-9, ((ranks - ranks.mean()) ** 2).sum()))
        return between, f"{key.name} explains {percent(between, 1)} of its variance"
    pairs, counts = np.unique(keys.astype(np.int64) * len(column.values) + codes, return_counts=True)
    most = np.zeros(len(key.values), dtype=np.int64)
    np.maximum.at(most, pairs // len(column.values), counts)
    same = most.sum() / len(keys)
    anyway = np.bincount(codes).max() / len(codes)
    words = f"the same for a {key.name} in {percent(same, 1)} of the rows"
    return float((same - anyway) / max(1e-9, 1 - anyway)), words


def _log_score(sample: Sample, columns: Iterable[Column]) -> float:
    """The most rows; but a user in them weighs as much as thirty times the rows: a catalog's changes may be many."""
    return float(np.log10(sample.rows)) + 1.5 * any(column.tokens & hints.USER for column in columns)


def _times(columns: dict[str, Column]) -> list[tuple[Column, TimeGuess]]:
    """The likeliest first: called so, written as text or native, with the most different times."""
    found = [(column, column.time) for column in columns.values() if column.time]
    return sorted(found, key=lambda pair: (-_time_score(*pair), pair[0].name))


def _time_score(column: Column, guess: TimeGuess) -> float:
    is_number = guess.keys.get("timestamp_unit", "iso8601") != "iso8601"
    return (
        2 * bool(column.tokens & hints.TIME)
        - is_number
        + column.distinct / max(1, column.rows)
        - column.empty / column.rows
    )


def _ids(
    columns: dict[str, Column], time: Column, seconds: np.ndarray, links: dict[str, list[Link]]
) -> tuple[Column, Column, dict[str, str]]:
    able = [column for column in columns.values() if column is not time and column.distinct >= 2]
    if len(able) < 2:
        raise DataError(
            f"the likeliest log has the columns {', '.join(columns)}; beside the time {time.name!r} it has fewer than "
            "two columns with several values: a log has a user and an item in each row"
        )
    gaps = {column.name: _gap(column, seconds) for column in able}
    score = {column.name: _id_score(column) for column in able}
    as_user, as_item = {}, {}
    for column in able:
        linked = max((link.score for link in links[column.name]), default=0.0)
        titled = any(any(map(looks_like_title, columns_of(k.sample).values())) for k in links[column.name])
        called_user, called_item = bool(column.tokens & hints.USER), bool(column.tokens & hints.ITEM)
        as_user[column.name] = score[column.name] + 3 * called_user - 3 * called_item + linked - titled
        as_user[column.name] -= 2 * (gaps[column.name][1] < 0.3)  # a user comes back
        as_item[column.name] = score[column.name] + 3 * called_item - 3 * called_user + linked + titled
    pairs = [(user, item) for user in able for item in able if user is not item]

    def of_pair(pair: tuple[Column, Column]) -> float:
        user, item = (column.name for column in pair)
        closer = np.sign(gaps[item][0] - gaps[user][0])  # a user's events stand closer together than an item's
        return float(as_user[user] + as_item[item] + 0.75 * closer)

    user, item = max(pairs, key=of_pair)
    swapped = of_pair((item, user))
    why = {"user": _why(user, hints.USER, gaps), "item": _why(item, hints.ITEM, gaps)}
    if of_pair((user, item)) - swapped < 2:
        why["user"] += f". NOT SURE: {item.name} could be the user and {user.name} the item"
    for key, column in (("user", user), ("item", item)):
        if column.distinct <= FEW < column.filled / FEW:
            why[key] += f". NOT SURE: so few values are rarely {key}s; is there a column of {key} ids?"
    return user, item, why


def _why(column: Column, words: frozenset[str], gaps: dict[str, tuple[float, float]]) -> str:
    hint = column.tokens & words
    text = f"the header says {min(hint)!r}; " if hint else "likeliest by its values; "
    hours = gaps[column.name][0] / 3_600
    between = (
        "in a minute"
        if hours < 1 / 60
        else f"after {hours:,.1f} hours"
        if hours < 48
        else f"after {hours / 24:,.0f} days"
    )
    return f"{text}{column.facts()}" + (f"; the next row of one comes {between} (median)" if np.isfinite(hours) else "")


def _id_score(column: Column) -> float:
    score = 0.3 * min(5.0, float(np.log10(max(1, column.distinct))))
    with np.errstate(invalid="ignore"):
        score -= 3 * (column.is_number and not column.is_whole_number) + 3 * (column.share(column.numbers < 0) > 0.001)
    score -= 1.5 * (column.words > 1.5)
    score -= 2 * (column.distinct > 0.9 * column.filled) + 2 * (column.distinct <= FEW < column.filled / FEW)
    score -= 3 * bool(column.tokens & hints.NO_ID) + 3 * (column.time is not None)
    return score + 0.5 * ("id" in column.tokens or column.name.lower().endswith(("id", "code", "no")))


def _gap(column: Column, seconds: np.ndarray) -> tuple[float, float]:
    """Median seconds to the next row of the same value, and the share of rows whose value has more than one time."""
    rows = np.flatnonzero(~column.blank[column.codes] & np.isfinite(seconds))
    order = rows[np.lexsort((seconds[rows], column.codes[rows]))]
    codes, times = column.codes[order], seconds[order]
    same = codes[1:] == codes[:-1]
    gaps = np.diff(times)[same]
    comes_back = np.zeros(len(column.values), dtype=bool)
    comes_back[codes[1:][same & (np.diff(times) > 0)]] = True
    return float(np.median(gaps)) if len(gaps) else float("inf"), float(comes_back[codes].mean()) if len(codes) else 0.0


def _links(log: Sample, column: Column, others: list[tuple[Sample, dict[str, Column]]]) -> list[Link]:
    """Sets that have the column's ids, each in one column."""
    found = []
    for sample, columns in others:
        best: Link | None = None
        for key in columns.values():
            if key.distinct < 0.5 * key.filled and key.name != column.name:
                continue
            known = pc.is_in(column.values, value_set=key.values.filter(pa.array(~key.blank))).to_numpy(
                zero_copy_only=False
            )
            coverage = column.share(known)
            mine = column.distinct
            shared = int(known[column.counts > 0].sum())
            score = coverage * shared / max(1, mine + key.distinct - shared) + 1.5 * (key.tokens == column.tokens)
            if (coverage >= LINKED or key.name == column.name) and (best is None or score > best.score):
                best = Link(sample=sample, id=key, coverage=coverage, score=score)
        if best:
            found.append(best)
    return found


def facts_of(link: Link, log: Sample, column: Column) -> str:
    """Why a set is the catalog or the users."""
    return (
        f"{link.id.name} has {link.id.distinct:,} distinct values in {link.id.filled:,} rows; "
        f"{percent(link.coverage, 1)} of the log's rows have their {column.name} here"
    )
