"""Which spans a run learns, and where the history before them comes from: decided once, before anything is read.

    what production learned ─┐
    spans refused ───────────┼─▶ plan ─▶ learn: spans read and learned
    files of the window ─────┘          history: spans read again, for histories only
                                        from_state: spans whose last interactions the user state holds

The state is used when it was made from the very files that are there now; else the window is read again. Both give the
same examples, to the byte.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from components.errors import NothingNew
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.files import (
    SourceFile,
    catalog_files,
    fingerprint,
    interaction_files,
    no_file,
    user_files,
    window_of,
)
from components.interaction_example_gen.span_pattern import SpanPattern

SHARD_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What production has learned, ever: span → the fingerprint of its files then.

    in_state: the spans whose interactions its user state holds; reads_as: by which contract it was made.
    """

    spans: Mapping[int, str] = field(default_factory=dict)
    in_state: tuple[int, ...] = ()
    reads_as: str = ""


@dataclass(frozen=True, kw_only=True)
class ReadPlan:
    """What one run reads.

    window_from: the oldest span that counts. fingerprints: of the files of each span in `learn`, `history` and
    `from_state`; learned: of every span that will have been learned then; entities: of the catalog and the users.
    """

    span: int
    window_from: int
    learn: tuple[int, ...]
    history: tuple[int, ...]
    from_state: tuple[int, ...]
    fingerprints: Mapping[int, str]
    learned: Mapping[int, str]
    entities: str
    reads_as: str
    num_shards: int

    @property
    def read(self) -> tuple[int, ...]:
        """The spans whose files are read, oldest first."""
        return tuple(sorted({*self.learn, *self.history}))

    def to_json(self) -> str:
        return PLAN.dump_json(self).decode()


PLAN = TypeAdapter(ReadPlan)


def parse_plan(text: str) -> ReadPlan:
    """From JSON, as a component gets it."""
    return PLAN.validate_json(text)


def make_plan(
    data_root: str,
    contract: DataContract,
    config: ExamplesConfig,
    span: int,
    *,
    learned: Learned | None = None,
    quarantined: Mapping[int, str] | None = None,
    condemned: Mapping[int, Mapping[str, str]] | None = None,
) -> ReadPlan:
    """The plan of a run for `span`, the newest span it reads.

    Args:
      learned: of what is in production; None before the first push.
      quarantined: spans to leave out, with the fingerprints of the files that the gate refused; what was corrected
        since is read. `span` itself is read all the same: the gate judges it anew.
      condemned: spans that a person found bad after they were learned: the fingerprints of their files then ('' for
        any), and who said so and why, in words. They are left out until they are corrected.

    Raises:
      DataError: `span`, the catalog or the users have no file.
      NothingNew: production has learned all of the window, or `span` is condemned.
    """
    window = window_of(span, config.window_spans)
    files: dict[int, list[SourceFile]] = {}
    for file in interaction_files(data_root, contract, window):
        files.setdefault(file.span, []).append(file)
    if span not in files:
        raise no_file(data_root, contract, span)
    refused = quarantined or {}
    prints = {number: fingerprint(found) for number, found in files.items()}
    for number in [n for n, seen in prints.items() if n != span and refused.get(n) == seen]:
        del files[number], prints[number]
    for number, said in (condemned or {}).items():
        if number not in prints or not (sentence := said.get(prints[number]) or said.get("")):
            continue
        if number == span:
            raise NothingNew(
                f"{sentence}; its files are as they were. Correct them, or wait for the next span; what learned it can "
                "be taken out of service: evergreen rollback"
            )
        del files[number], prints[number]
    learned = learned or Learned()
    known = {number for number, seen in learned.spans.items() if prints.get(number) == seen}
    learn = sorted(files) if config.targets == "window" else sorted(set(files) - known)
    if not learn:
        label = SpanPattern(contract.interactions.files).label
        raise NothingNew(
            f"nothing new to learn: production has learned every span of the window from {label(min(files))} to "
            f"{label(span)}; wait for newer interactions, or set targets: window to learn the whole window again"
        )
    reads_as = fingerprint_of_reading(contract, config)
    rest = set(files) - set(learn)
    held = {number for number in learned.in_state if number in window}
    state_fits = learned.reads_as == reads_as and rest == held and span in learn  # the eval cut wants all of `span`
    return ReadPlan(
        span=span,
        window_from=window[0],
        learn=tuple(learn),
        history=() if state_fits else tuple(sorted(rest)),
        from_state=tuple(sorted(rest)) if state_fits else (),
        fingerprints=prints,
        learned={**learned.spans, **prints},
        entities=fingerprint([*catalog_files(data_root, contract, files), *user_files(data_root, contract, files)]),
        reads_as=reads_as,
        num_shards=config.num_shards or 1 + len(window) * sum(f.size_bytes for f in files[span]) // SHARD_BYTES,
    )


def fingerprint_of_reading(contract: DataContract, config: ExamplesConfig) -> str:
    """Of all that decides which interactions a user state holds: a state made otherwise is not used."""
    text = TypeAdapter(type(contract.interactions)).dump_json(contract.interactions).decode()
    return hashlib.sha256(f"{text}\n{config.max_history}".encode()).hexdigest()[:16]
