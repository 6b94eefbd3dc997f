"""Which versions learned which spans, and which of them a training may go on from.

A version's manifest has every span that it or a version before it learned, with the fingerprint of the files as they
were then, and the version it went on from: `{"lineage": {"learned": {"5": "8c1f…"}}, "warm_started_from": 1795237069}`.
A person condemns a span as its files were; corrected files are others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serving.registry_records import SpanRecord, Version

ANY = ""  # fingerprint of a span that was condemned without one: whatever its files were


@dataclass(frozen=True)
class Condemned:
    """A span that a person found bad: its name, the fingerprint of its files, who said so and why."""

    span: int
    label: str
    fingerprint: str
    who: str
    why: str

    def __str__(self) -> str:
        return f"span {self.label}, condemned by {self.who}: {self.why}"

    def is_of(self, fingerprint: str) -> bool:
        """Whether files of this fingerprint are what was condemned."""
        return self.fingerprint in (ANY, fingerprint)


def condemned(records: Iterable[SpanRecord]) -> list[Condemned]:
    """What is condemned still, in the order of the ledger: an override takes it back."""
    found: list[Condemned] = []
    for record in records:
        fingerprint = record.verdict.get("fingerprint") or ANY
        if record.state == "condemned":
            label = record.verdict.get("label") or str(record.span)
            found.append(Condemned(record.span, label, fingerprint, **record.verdict["condemned"]))
        elif "override" in record.verdict:
            found = [one for one in found if not (one.span == record.span and one.is_of(fingerprint))]
    return found


def learned(version: Version) -> dict[int, str]:
    """Span → fingerprint of its files, of every span that the version or one before it learned."""
    manifest = version.manifest
    lineage = manifest.get("lineage") or {"learned": dict.fromkeys(map(str, manifest.get("spans", ())), ANY)}
    return {int(span): fingerprint for span, fingerprint in lineage["learned"].items()}


def stains(version: Version, versions: Iterable[Version], bad: Iterable[Condemned]) -> list[Condemned]:
    """What the version learned of that which is condemned, or one of `versions` did that it stems from.

    One that learned a span as it was corrected may stem from one that learned it as it was before.
    """
    by_number = {one.version: one for one in versions}
    seen: set[tuple[int, str]] = set()
    ancestor: Version | None = version
    while ancestor:
        seen |= set(learned(ancestor).items())
        ancestor = by_number.get(ancestor.manifest.get("warm_started_from") or 0)
    return [
        one for one in bad if any(span == one.span and (print_ == ANY or one.is_of(print_)) for span, print_ in seen)
    ]


def start_of(versions: Sequence[Version], bad: Sequence[Condemned]) -> Version | None:
    """The version to go on from: the live one, or else the newest before it, that learned nothing condemned.

    `versions` are all, in any order. A version that was rolled back is not gone on from. None: begin from nothing.
    """
    live = max((v.version for v in versions if v.state == "live"), default=None)
    if live is None:
        return None
    able = (v for v in versions if v.state in ("live", "retired") and v.version <= live)
    return max((v for v in able if not stains(v, versions, bad)), key=lambda v: v.version, default=None)


def why_not_live(versions: Sequence[Version], bad: Sequence[Condemned]) -> str:
    """In words, where a run does not go on from the live version; '' where it does."""
    live, start = next((v for v in versions if v.state == "live"), None), start_of(versions, bad)
    if live is None or (start is not None and start.version == live.version):
        return ""
    return f"version {live.version} learned {'; '.join(map(str, stains(live, versions, bad)))}"


def stems(versions: Iterable[Version], span: int) -> dict[int, str]:
    """Version → how it came to know a span, oldest first; versions that do not know it are left out."""
    by_number = {version.version: version for version in versions}
    found = {}
    for number, version in sorted(by_number.items()):
        if span not in learned(version):
            continue
        parent = version.manifest.get("warm_started_from")
        came_along = parent in by_number and learned(by_number[parent]).get(span) == learned(version)[span]
        found[number] = f"through version {parent}, which it started from" if came_along else "learned it"
    return found
