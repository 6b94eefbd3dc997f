"""`evergreen contract infer`: a first configuration from the files, with a comment on every guess that says why."""

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.contract_infer.guess import MAX_CATEGORIES, Column, FeatureGuess, guess_feature, odd_ids, percent
from pipeline.contract_infer.kinds import TypesGuess, guess_types
from pipeline.contract_infer.roles import Link, Roles, columns_of, depends_on, facts_of, find_roles, looks_like_title
from pipeline.contract_infer.sample import Found, look
from pipeline.contract_infer.spans import SpanGuess, guess_spans, one_glob
from trainer import features as names_of

WIDTH = 118
DEPENDS = 0.7  # from 0 to 1: what the item nearly decides describes the item
DROP_FROM = 0.005  # rejected rows stop a run above 1%
MAX_CONTEXT = 12
EVENT_ID = 0.9  # of the rows have a value of their own
CATEGORY = {"type": "category"}
RESERVED = frozenset(value for name, value in vars(names_of).items() if name.endswith("_KEY"))
HEADER = """\
A first configuration, written by `evergreen contract infer`. Every guess says why; read each one, correct what is \
wrong, and then ask for PASS and FAIL lines: evergreen contract check {config}"""


def infer(paths: Sequence[Path], out: Path | None = None) -> str:
    """The text of a configuration for the files below `paths`; `out` is where it will stand.

    Raises DataError when the paths hold no interaction log.
    """
    found = look(paths)
    return Writer(found, find_roles(found), out).write()


class Writer:
    """Lines of YAML, each with its reason."""

    def __init__(self, found: Found, roles: Roles, out: Path | None) -> None:
        self.found, self.roles, self.out = found, roles, out
        self.lines: list[str] = []
        self.taken: dict[str, str] = dict.fromkeys(RESERVED, "the examples")

    def write(self) -> str:
        roles, log = self.roles, self.roles.log
        spans = guess_spans([file.name for file in log.files], self.roles.times_of_files())
        rest = [column for column in roles.columns.values() if column not in (roles.user, roles.item, roles.time)]
        types = guess_types(rest, log.rows)
        drops = [column for column in (roles.user, roles.item, types.column) if column and _is_often_empty(column)]
        self._head(spans)
        self.say(0, "")
        self.say(0, "contract:")
        self._log(spans, types)
        self._deduplicate([column for column in rest if column is not types.column])
        left = [column for column in rest if column is not types.column]
        depends = {c.name: depends_on(c, roles.item) for c in left} if not roles.catalog else {}
        described = {name: why for name, (degree, why) in depends.items() if degree >= DEPENDS}
        self._context([column for column in left if column.name not in described])
        self._drops(drops)
        if roles.catalog:
            self._entity("items", roles.catalog, roles.item)
        else:
            self._items_of_log(spans, [c for c in left if c.name in described], described, drops)
        if roles.users:
            self._entity("users", roles.users, roles.user)
        self._examples(spans)
        return "\n".join(self.lines) + "\n"

    def say(self, indent: int, text: str, why: str = "") -> None:
        """A line with its reason behind it, or above it when both are too long for one line."""
        pad = "  " * indent
        if len(pad + text) + len(why) + 4 > WIDTH:
            self.note(indent, why)
            why = ""
        self.lines.append(f"{pad}{text}  # {why}" if why else f"{pad}{text}")

    def note(self, indent: int, words: str) -> None:
        """A comment alone."""
        pad = f"{'  ' * indent}# "
        self.lines += textwrap.wrap(words, WIDTH, initial_indent=pad, subsequent_indent=pad)

    def _head(self, spans: SpanGuess) -> None:
        root = self.found.root
        self.note(0, HEADER.format(config=self.out or "FILE"))
        for sample in self.found.samples:
            part = "all rows" if sample.is_whole else "a sample"
            self.note(0, f"Looked at: {sample.name}: {sample.rows:,} rows ({part})")
        for problem in self.found.problems:
            self.note(0, f"Not used: {problem}")
        for sample in self.roles.unused:
            self.note(0, f"Not used: {sample.name} ({', '.join(sample.columns)}) describes no id of the log")
        if not spans.is_found:
            self.note(0, f"To do: {spans.why}")
        folder = root.parent if root.name.lower() in ("data", "raw", "input", "files", "logs") else root
        name = re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-_")
        self.say(
            0,
            f"name: {name if re.match('[a-z]', name) else 'recommender'}",
            "after the folder; models and reports have it",
        )
        place = os.path.relpath(root, self.out.absolute().parent) if self.out else str(root)
        self.say(0, f"data_root: {_scalar(place)}", "what all files have above them")

    def _log(self, spans: SpanGuess, types: TypesGuess) -> None:
        roles, guess = self.roles, self.roles.time.time
        assert guess is not None  # find_roles chose it for that
        self.say(1, "interactions:", f"{roles.log.name}: most rows of what has a time")
        self.say(2, f"files: {_scalar(spans.files)}", spans.why)
        self.say(2, f"user_id: {_scalar(roles.user.name)}", roles.why["user"])
        self.say(2, f"item_id: {_scalar(roles.item.name)}", roles.why["item"] + odd_ids(roles.item))
        self.say(2, f"timestamp: {_scalar(roles.time.name)}", roles.why["time"])
        for key, value in guess.keys.items():
            self.say(
                2, f"{key}: {_scalar(value)}", f"reads {percent(guess.share, 1)} of the values, {self.roles.from_to()}"
            )
        if guess.needs_zone:
            self.say(
                2, "time_zone: UTC", "the times do not say theirs: write yours, such as Europe/Rome, if they are local"
            )
        self.say(2, f"interaction_type: {_scalar(types.column.name) if types.column else 'null'}", types.why)
        self.say(2, "types:", "the heaviest is what ranking learns to predict; roles: positive, negative, ignored")
        for name, (kind, why) in types.types.items():
            self.say(3, f"{_scalar(name)}: {_scalar(kind)}", why)
        if (busiest := self.roles.busiest_hour()) > 0:
            self.note(
                2, f"max_events_per_hour: the busiest user has {busiest:,} rows in one hour; a bound leaves robots out"
            )

    def _deduplicate(self, columns: list[Column]) -> None:
        """By an event's own id: nearly every row has another, but a few come again, as from senders that retry."""
        for column in columns:
            if (
                column.time is None
                and EVENT_ID * column.filled <= column.distinct < column.filled
                and column.words <= 1
            ):
                again = column.filled - column.distinct
                why = f"{column.facts()}: {again:,} rows repeat an id, as from senders that retry"
                self.say(2, f"deduplicate_by: {_scalar([column.name])}", why)
                return

    def _context(self, columns: list[Column]) -> None:
        """Only few-valued columns: what has many values is rarely known when recommendations are asked for."""
        guesses = {column.name: (column, guess_feature(column)) for column in columns}
        few = [
            n for n, (column, guess) in guesses.items() if guess.keys == CATEGORY and column.distinct <= MAX_CATEGORIES
        ]
        able = [name for name in few if self._is_free(name, "context")]
        kept = able[:MAX_CONTEXT]
        if kept:
            self.say(2, "context:", "take away what is not known yet when recommendations are asked for")
        for name in kept:
            self.say(3, f"- {_scalar({'name': name})}", guesses[name][1].why)
        if rest := able[MAX_CONTEXT:]:
            self.note(2, f"{', '.join(map(repr, rest))}: not used, though they have few values too; add what matters")
        if constant := [name for name, (column, _) in guesses.items() if column.distinct < 2]:
            self.note(2, f"{', '.join(map(repr, constant))}: not used, the same in all rows")
        for name in [name for name in guesses if name not in (*able, *constant)]:
            keys, why = guesses[name][1].keys, guesses[name][1].why
            other = f"; as context: {_scalar({'name': name} | keys)}" if keys else ""
            self.note(2, f"{name!r} is not used: {why}{other}")

    def _drops(self, columns: list[Column], indent: int = 2) -> None:
        if columns:
            self.say(indent, "drop:", "left out and counted, not rejected")
        for column in columns:
            self.say(
                indent + 1,
                f"- {_scalar({'column': column.name, 'pattern': ''})}",
                f"{percent(column.empty, column.rows)} empty",
            )

    def _items_of_log(self, spans: SpanGuess, columns: list[Column], whys: dict[str, str], drops: list[Column]) -> None:
        roles = self.roles
        self.say(1, "items:", "no file describes the items, so the log does: an item is what its rows said last")
        self.say(2, f"files: {_scalar(spans.files)}", "as the log's")
        self.say(2, f"item_id: {_scalar(roles.item.name)}", "as the log's")
        self.say(2, f"timestamp: {_scalar(roles.time.name)}", "as the log's")
        self._describe([(column.name, guess_feature(column), column) for column in columns], "items", whys)
        self._drops(drops)

    def _entity(self, key: str, link: Link, column: Column) -> None:
        sample, columns = link.sample, columns_of(link.sample)
        of = "item_id" if key == "items" else "user_id"
        self.say(1, f"{key}:", facts_of(link, self.roles.log, column))
        self.say(
            2,
            f"files: {_scalar(one_glob([file.name for file in sample.files]))}",
            "one file" if len(sample.files) == 1 else f"{len(sample.files):,} files",
        )
        why = f"{link.id.facts()}"
        times = [one for one in columns.values() if one is not link.id and one.time]
        is_repeated = link.id.distinct < link.id.filled
        self.say(2, f"{of}: {_scalar(link.id.name)}", why)
        log_keys = self.roles.time.time.keys if self.roles.time.time else {}
        if is_repeated and (alike := [c for c in times if c.time and c.time.keys == log_keys]):
            self.say(2, f"timestamp: {_scalar(alike[0].name)}", "ids repeat: a row is what is known from then on")
            columns.pop(alike[0].name)
        elif is_repeated:
            words = "and no column has a time written as the log's: keep one row per id"
            self.note(2, f"{link.id.filled - link.id.distinct:,} rows repeat an id, {words}")
        found = []
        for name in sample.columns:
            if name == link.id.name or name in sample.odd or (name not in columns and name not in sample.nested):
                if name in sample.odd:
                    self.note(2, f"{name!r} is not used: {sample.odd[name]}")
                continue
            nested = sample.nested.get(name)
            found.append((name, guess_feature(columns.get(name) or link.id, nested), columns.get(name)))
        self._describe(found, key, {})

    def _describe(self, found: list[tuple[str, FeatureGuess, Column | None]], of: str, whys: dict[str, str]) -> None:
        titles = (
            [column for _, _, column in found if column is not None and looks_like_title(column)]
            if of == "items"
            else []
        )
        titled = max(titles, key=lambda c: (bool(c.tokens & {"title", "name"}), c.distinct), default=None)
        if titled is not None:
            self.say(
                2,
                f"title: {_scalar(titled.name)}",
                f"what people read: {titled.facts()}; such as {titled.top(1)[0][0]!r}",
            )
        lines, no = [], []
        for name, guess, column in found:
            why = "; ".join(part for part in (whys.get(name, ""), guess.why) if part)
            if guess.keys is None or (column is titled and guess.keys["type"] != "text"):
                if column is not titled:
                    no.append(f"{name!r} is not used: {why}")
            elif self._is_free(name, of, titled):
                keys = {k: v for k, v in guess.keys.items() if (k, v) not in (("type", "category"), ("separator", "|"))}
                lines.append((f"- {_scalar({'name': name} | keys)}", why))
            else:
                no.append(
                    f"{name!r} is not used: {self.taken.get(name, 'the title')} has the name already; rename the column"
                )
        if lines:
            self.say(2, "features:")
        for line, why in lines:
            self.say(3, line, why)
        for why in no:
            self.note(2, why)

    def _examples(self, spans: SpanGuess) -> None:
        files = max(1, len(self.roles.log.files))
        per_file = self.roles.log.rows / max(1, len(self.roles.log.looked_at))
        window = (
            28
            if "{DD}" in spans.files and "{HH}" not in spans.files
            else 168
            if "{HH}" in spans.files
            else min(8, max(4, files))
        )
        share = float(np.clip(np.round(500 / max(1.0, per_file), 1), 0.1, 0.5))
        self.say(0, "")
        self.say(0, "examples:")
        unit = "days" if window == 28 else "hours" if window == 168 else "spans"
        self.say(1, f"window_spans: {window}", f"{unit} that histories and the catalog's popularity come from")
        self.say(
            1, f"eval_fraction: {share}", f"the newest part of the newest span; a file has about {per_file:,.0f} rows"
        )

    def _is_free(self, name: str, of: str, title: Column | None = None) -> bool:
        """Takes the name, which users, items and context share."""
        allowed = of == "items" and name == names_of.TITLE_KEY and (title is None or title.name == name)
        if name in self.taken and not allowed:
            return False
        self.taken[name] = of
        return True


def _is_often_empty(column: Column) -> bool:
    return column.empty > DROP_FROM * column.rows


def _scalar(value: Any) -> str:
    """As YAML writes it in a line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n").strip()
    )
