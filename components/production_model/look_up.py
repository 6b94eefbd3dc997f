"""Looks up what is live in the registry, and what the next run goes on from, and copies what it needs of both.

They are one version, unless the live one learned a span that a person condemned since (serving/lineage.py): then the
run goes on from the newest version before it that did not, and the live one is the baseline all the same.

What is written:

    production.json          last, so that it is only there when all the rest is
    servable/                of the live version: the baseline
    trainer/                 of the version that the run goes on from, as is all that follows: the warm start
    statistics/interactions  the ExampleStatistics of the last span that was accepted, as `Split-<name>/FeatureStats.pb`
    statistics/catalog
    state/                   the user state that it left
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from components.errors import EvergreenError
from serving.lineage import condemned, start_of, why_not_live
from serving.registry import Registry
from serving.registry_records import Version
from serving.releases import complete_versions, one_push_at_a_time

FEW_SPANS = 6
RELEASE_PARTS = ("trainer", "statistics/interactions", "statistics/catalog", "state")


@dataclass(frozen=True)
class Found:
    """What is live, None before the first push, and what the run goes on from, None for nothing.

    Of `start_version` are `learned_until_seconds`, since 1970, UTC, and `spans`. start_because: why it is not the live
    version, '' where it is.
    """

    version: int | None
    start_version: int | None
    start_because: str
    learned_until_seconds: int
    spans: tuple[int, ...]

    def __str__(self) -> str:
        if self.version is None:
            return "nothing is in production yet: this run trains from nothing and has no baseline"
        if self.start_because:
            start = (
                f"version {self.start_version}" if self.start_version else "nothing: no version is left that has not"
            )
            return f"{self.start_because}; it is the baseline, and this run starts from {start}"
        spans = ", ".join(map(str, self.spans)) or "none"
        if len(self.spans) > FEW_SPANS:
            spans = f"{self.spans[0]} to {self.spans[-1]}, {len(self.spans)} in all"
        return f"version {self.version} is in production; it has learned the spans {spans}"


def look_up(
    registry: Registry, serving_path: Path, releases_path: Path, live_version: int, start_version: int, target: Path
) -> Found:
    """Writes what is live, and what the run goes on from, to `target`. Of versions, 0 is none.

    Raises EvergreenError when either is not what the run was compiled for, or its files are incomplete.
    """
    with one_push_at_a_time(serving_path):  # to the end: what is being copied is not cleaned away meanwhile
        on_disk = complete_versions(serving_path)
        registry.abandon_pushes(lambda pushed: pushed.version in on_disk)
        return _look_up(registry, serving_path, releases_path, live_version, start_version, target)


def _look_up(
    registry: Registry, serving_path: Path, releases_path: Path, live_version: int, start_version: int, target: Path
) -> Found:
    live = registry.live()
    number = live.version if live else 0
    if number != live_version:
        raise EvergreenError(
            f"production changed since this run was compiled: {_named(live_version)} was live then, "
            f"{_named(number)} is now. Nothing was written; run again"
        )
    bad = condemned(registry.span_records())
    versions = registry.versions()
    start = start_of(versions, bad)
    if (start.version if start else 0) != start_version:
        raise EvergreenError(
            f"what a run may start from changed since this one was compiled: it would have gone on from "
            f"{_named(start_version)}, and is to go on from {_named(start.version if start else 0)}. "
            "Nothing was written; run again"
        )
    found = Found(number or None, start_version or None, why_not_live(versions, bad), *_read(start))
    sources = {}
    if live:
        sources["servable"] = serving_path / str(number)
    if start:
        sources |= {part: releases_path / str(start_version) / part for part in RELEASE_PARTS}
    _copy(sources, target)
    target.mkdir(parents=True, exist_ok=True)
    (target / "production.json").write_text(json.dumps(asdict(found), indent=2))
    return found


def _named(version: int) -> str:
    return f"version {version}" if version else "nothing"


def _read(start: Version | None) -> tuple[int, tuple[int, ...]]:
    """Until when the version has learned, and its spans."""
    if start is None:
        return 0, ()
    wanted = ("learned_until_seconds", "spans")
    if missing := [key for key in wanted if key not in start.manifest]:
        raise EvergreenError(
            f"the manifest of version {start.version} has no {' and no '.join(missing)}; "
            f"it has {sorted(start.manifest)}. "
            "It was not pushed by this pipeline: roll back to one that was, or start with a new registry"
        )
    return int(start.manifest["learned_until_seconds"]), tuple(int(span) for span in start.manifest["spans"])


def _copy(sources: dict[str, Path], target: Path) -> None:
    if missing := [str(source) for source in sources.values() if not source.is_dir()]:
        raise EvergreenError(
            f"the registry knows this version, but its files are gone: {', '.join(missing)}. "
            "Put them back, or roll back to the version before (evergreen rollback)"
        )
    for part, source in sources.items():
        shutil.copytree(source, target / part)
