"""Looks up what is live in the registry and copies what the next run needs of it.

What is written:

    production.json          last, so that it is only there when all the rest is
    servable/ trainer/       the baseline and the warm start
    statistics/interactions  the ExampleStatistics of the last span that was accepted, as `Split-<name>/FeatureStats.pb`
    statistics/catalog
    state/                   the user state that it left
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from components.errors import EvergreenError
from serving.registry import Registry, Version
from serving.releases import complete_versions

FEW_SPANS = 6
RELEASE_PARTS = ("trainer", "statistics/interactions", "statistics/catalog", "state")


@dataclass(frozen=True)
class Found:
    """What is live, None before the first push; `learned_until_seconds` since 1970, UTC."""

    version: int | None
    learned_until_seconds: int
    spans: tuple[int, ...]

    def __str__(self) -> str:
        if self.version is None:
            return "nothing is in production yet: this run trains from nothing and has no baseline"
        spans = ", ".join(map(str, self.spans)) or "none"
        if len(self.spans) > FEW_SPANS:
            spans = f"{self.spans[0]} to {self.spans[-1]}, {len(self.spans)} in all"
        return f"version {self.version} is in production; it has learned the spans {spans}"


def look_up(registry: Registry, serving_path: Path, releases_path: Path, live_version: int, target: Path) -> Found:
    """Writes what is live to `target`.

    Raises EvergreenError when production is not what the run was compiled for, or its files are incomplete.
    """
    on_disk = complete_versions(serving_path)
    registry.abandon_pushes(lambda pushed: pushed.version in on_disk)
    live = registry.live()
    number = live.version if live else 0
    if number != live_version:
        raise EvergreenError(
            f"production changed since this run was compiled: {_named(live_version)} was live then, "
            f"{_named(number)} is now. Nothing was written; run again"
        )
    found = _read(live) if live else Found(None, 0, ())
    if live:
        _copy(live, serving_path, releases_path, target)
    target.mkdir(parents=True, exist_ok=True)
    (target / "production.json").write_text(json.dumps(asdict(found), indent=2))
    return found


def _named(version: int) -> str:
    return f"version {version}" if version else "nothing"


def _read(live: Version) -> Found:
    wanted = ("learned_until_seconds", "spans")
    if missing := [key for key in wanted if key not in live.manifest]:
        raise EvergreenError(
            f"the manifest of version {live.version} has no {' and no '.join(missing)}; "
            f"it has {sorted(live.manifest)}. "
            "It was not pushed by this pipeline: roll back to one that was, or start with a new registry"
        )
    return Found(
        live.version,
        int(live.manifest["learned_until_seconds"]),
        tuple(int(span) for span in live.manifest["spans"]),
    )


def _copy(live: Version, serving_path: Path, releases_path: Path, target: Path) -> None:
    release = releases_path / str(live.version)
    sources = {"servable": serving_path / str(live.version)} | {part: release / part for part in RELEASE_PARTS}
    if missing := [str(source) for source in sources.values() if not source.is_dir()]:
        raise EvergreenError(
            f"version {live.version} is live in the registry, but its files are gone: {', '.join(missing)}. "
            "Put them back, or roll back to the version before (evergreen rollback)"
        )
    for part, source in sources.items():
        shutil.copytree(source, target / part)
