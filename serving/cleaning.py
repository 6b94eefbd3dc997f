"""Old versions are cleaned away: the files of all but the newest go, and never those of one that is in use.

Rows first, files second: a version that is `removed` is chosen by nothing, and the files of every removed version that
are still there go with the next call, so that one that was killed is finished by it. The rows stay: manifests tell
which version stems from which.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from serving.errors import RegistryError
from serving.lineage import Condemned, condemned, start_of
from serving.registry import Registry
from serving.registry_records import Version
from serving.releases import finish_interrupted, one_push_at_a_time, quarantined_path

LEAST = 2  # the live one, and one to go back to


def clean(registry: Registry, base_path: Path, releases_path: Path, keep: int, who: str) -> list[int]:
    """Waits until no push is under way, then removes what the policy gives up; see `remove_old`."""
    with one_push_at_a_time(base_path):
        finish_interrupted(registry, base_path, who)
        return remove_old(registry, base_path, releases_path, keep, who)


def remove_old(registry: Registry, base_path: Path, releases_path: Path, keep: int, who: str) -> list[int]:
    """Removes the files of old versions, in the base path, among the releases and among the quarantined.

    Call it while one_push_at_a_time.

    Args:
        keep: versions that keep their files: the live one and the newest `keep` - 1 retired ones. Of quarantined ones
            the newest `keep` - 1 do, too, so that what went wrong can be looked into.
        who: for the audit.

    Returns: the versions that were given up now, newest first.

    Raises:
        RegistryError: `keep` is less than 2.
        OSError: files cannot be removed; the next call tries again.
    """
    if keep < LEAST:
        raise RegistryError(f"cannot keep {keep} versions; at least {LEAST} are: the live one, and one to go back to")
    versions = registry.versions()
    old = to_remove(versions, condemned(registry.span_records()), keep)
    if old:
        registry.remove(old, who, f"of retired and of quarantined versions, the newest {keep - 1} keep their files")
    for version in (*old, *(one.version for one in versions if one.state == "removed")):
        for folder in (base_path, releases_path, quarantined_path(base_path)):
            _remove(folder, version)
    return old


def to_remove(versions: Sequence[Version], bad: Sequence[Condemned], keep: int) -> list[int]:
    """Which versions the policy gives up, newest first: neither live, nor gone back to next, nor the next run's start.

    `versions` are the newest first; `bad` is what is condemned, which decides what the next run starts from.
    """
    retired = [one.version for one in versions if one.state == "retired"]
    quarantined = [one.version for one in versions if one.state == "quarantined"]
    start = start_of(versions, bad)
    in_use = {*retired[:1], *([start.version] if start else [])}
    return sorted({*retired[keep - 1 :], *quarantined[keep - 1 :]} - in_use, reverse=True)


def _remove(folder: Path, version: int) -> None:
    """Hides the version's folder in one step and removes it; before that, what a killed call had hidden."""
    hidden = folder / f".{version}.tmp"  # no server looks at it
    if hidden.exists():
        shutil.rmtree(hidden)
    if (folder / str(version)).is_dir():
        os.rename(folder / str(version), hidden)
        shutil.rmtree(hidden)
