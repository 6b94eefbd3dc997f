"""Which span a file is of, guessed from the paths: a date in them, or the number that differs from file to file."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.contract_infer import hints

BETWEEN = r"[-_/.]?(?:[a-z]+=)?"  # 2011-12-09, 2011/12/09, 20111209, year=2011/month=12/day=09
DATE = re.compile(
    rf"(?<!\d)(?P<YYYY>(?:19|20)\d\d)(?P<s1>{BETWEEN})(?P<MM>0[1-9]|1[0-2])(?P<s2>{BETWEEN})(?P<DD>0[1-9]|[12]\d|3[01])"
    rf"(?:(?P<s3>[-_/.T]?(?:[a-z]+=)?)(?P<HH>[01]\d|2[0-3]))?(?!\d)"
)
HOUR_SECONDS = 7_200  # a file whose events stand closer together is likely an hour's
NO_SPAN = "spans/{span}/*"


@dataclass(frozen=True)
class SpanGuess:
    """`files` of the contract; when none was found, where files are to be put."""

    files: str
    why: str
    is_found: bool = True


def guess_spans(names: Sequence[str], seconds: Sequence[tuple[float, float]]) -> SpanGuess:
    """From the files' names below the data root, and each file's first and last event (NaN: not looked at)."""
    first, last = np.array(seconds, dtype=np.float64).reshape(-1, 2).T
    by_hour = bool(np.isfinite(last).any()) and float(np.nanmedian(last - first)) < HOUR_SECONDS
    return _by_date(names, by_hour) or _by_number(names, first) or _none(names)


def one_glob(names: Sequence[str]) -> str:
    """A glob that matches the names: what they share, and `*`."""
    if len(names) == 1:
        return names[0]
    folders = [name.split("/") for name in names]
    if len({len(parts) for parts in folders}) > 1:
        return "**"
    return "/".join(_shared(list(parts)) for parts in zip(*folders, strict=True))


def _by_date(names: Sequence[str], by_hour: bool) -> SpanGuess | None:
    forms = set()
    for name in names:
        found = DATE.search(name)
        if found is None:
            return None
        hour = f"{found['s3']}{{HH}}" if found["HH"] and by_hour else ""
        rest = name[found.end() if hour or not found["HH"] else found.end("DD") :]
        forms.add((name[: found.start()], f"{{YYYY}}{found['s1']}{{MM}}{found['s2']}{{DD}}{hour}", rest))
    if len({middle for _, middle, _ in forms}) > 1:
        return None
    before, after = one_glob(sorted({f[0] for f in forms})), one_glob(sorted({f[2] for f in forms}))
    files = f"{before}{next(iter(forms))[1]}{after}"
    return _checked(files, names, f"the date in the path, such as {names[0]!r}")


def _by_number(names: Sequence[str], first: np.ndarray) -> SpanGuess | None:
    pieces = [re.split(r"(\d+)", name) for name in names]
    if len({tuple(parts[::2]) for parts in pieces}) > 1:  # names differ in more than figures: the folders alone
        folders = [name.rpartition("/")[0] for name in names]
        pieces = [[*re.split(r"(\d+)", f"{folder}/")[:-1], "/*"] for folder in folders]
        if not all(folders) or len({tuple(parts[::2]) for parts in pieces}) > 1:
            return None
    positions = range(1, len(pieces[0]), 2)
    scores = {n: _score(pieces, n, first) for n in positions}
    best = max(positions, key=lambda n: scores[n], default=None)
    if best is None or scores[best] <= 0:
        return None
    parts = list(pieces[0])
    for n in positions:
        if n == best:
            parts[n] = "{span}"
        elif len({piece[n] for piece in pieces}) > 1 or n > best:
            parts[n] = "{version}" if re.search(r"(^|[^a-z])v(ersion)?[-_=]?$", parts[n - 1]) else "*"
    return _checked("".join(parts), names, f"the number in the path, such as {names[0]!r}")


def _score(pieces: list[list[str]], position: int, first: np.ndarray) -> int:
    """How much the number looks like a span's: it differs, is called so, names a folder, rises with time."""
    numbers = np.array([int(parts[position]) for parts in pieces])
    called = hints.tokens(re.split(r"[/.]", pieces[0][position - 1].rstrip("/-_=."))[-1])
    score = 2 * (len(set(numbers)) > 1) + 3 * bool(called & hints.SPAN) - 3 * bool(called & hints.NO_SPAN)
    score += "/" in "".join(pieces[0][position + 1 :])
    known = np.isfinite(first)
    if len(set(numbers[known])) > 1:
        rises = np.diff(first[known][np.argsort(numbers[known], kind="stable")]) > 0
        score += 2 if rises.mean() > 0.9 else -2
    return score


def _checked(files: str, names: Sequence[str], why: str) -> SpanGuess | None:
    """With its spans, when every file is of one."""
    try:
        pattern = SpanPattern(files)
    except ValueError:
        return None
    parsed = [pattern.parse(name) for name in names]
    if padded := [
        name for name, found in zip(names, parsed, strict=True) if not found and re.search(r"(?<!\d)0\d", name)
    ]:
        words = (
            f"NO SPAN FOUND in {padded[0]!r}: numbers with leading zeros are not read; rename the files, without zeros"
        )
        return SpanGuess(files, words, is_found=False)
    spans = sorted({found[0] for found in parsed if found})
    if None in parsed:
        return None
    shown = pattern.labels(spans) if len(spans) < 3 else f"{pattern.label(spans[0])} to {pattern.label(spans[-1])}"
    return SpanGuess(files, f"{why}; {len(spans):,} span{'s' * (len(spans) != 1)}: {shown}")


def _none(names: Sequence[str]) -> SpanGuess:
    why = (
        f"NO SPAN FOUND in {names[0]!r}: move each period's files into a folder of its own below data_root "
        f"(spans/1/{names[0].rpartition('/')[2]}), or give them a date in their name ({{YYYY}}-{{MM}}-{{DD}})"
    )
    return SpanGuess(NO_SPAN, why, is_found=False)


def _shared(parts: list[str]) -> str:
    """What they begin and end with, `*` between; a number is never cut in two."""
    if len(set(parts)) == 1:
        return parts[0]
    begin = re.sub(r"\d+$", "", _beginning(parts))
    rest = [part[len(begin) :][::-1] for part in parts]
    end = re.sub(r"\d+$", "", _beginning(rest))[::-1]
    return f"{begin}*{end}"


def _beginning(parts: list[str]) -> str:
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*parts, strict=False))
    return "".join(letters[0] for letters in same)
