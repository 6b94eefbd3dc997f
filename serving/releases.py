"""The files of versions: numbered folders under a base path, each complete or absent.

What there is:

    <base>/<version>/saved_model.pb   what TensorFlow Serving and our server watch; the highest is served
    <base>/.<version>.tmp/            a push under way, or what a killed push left; no server looks at it
    <base>/.quarantined.<version>     an empty mark: this number was taken out, never use it again
    <base>/../quarantined/<version>/  versions that were taken out as bad: of the same file system, so a rename does
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import RegistryError, ReleaseError
from serving.registry import Registry, Version

_NUMBERED = re.compile(r"(?:|\.quarantined\.)(\d+)|\.(\d+)\.tmp", re.ASCII)
_TEMPORARY = re.compile(r"\.\d+\.tmp", re.ASCII)


def complete_versions(base_path: str | Path) -> dict[int, Path]:
    """Versions that a server may load, ascending: numbered folders with a saved_model.pb."""
    base = Path(base_path)
    if not base.is_dir():
        return {}
    found = {
        int(entry.name): entry
        for entry in base.iterdir()
        if re.fullmatch(r"\d+", entry.name, re.ASCII) and (entry / "saved_model.pb").is_file()
    }
    return dict(sorted(found.items()))


def next_version(base_path: str | Path, now: Callable[[], float]) -> int:
    """Unix seconds, or one more than the highest number ever used here, whichever is greater."""
    base = Path(base_path)
    names = [entry.name for entry in base.iterdir()] if base.is_dir() else []
    used = [int(match[1] or match[2]) for match in map(_NUMBERED.fullmatch, names) if match]
    return max([int(now()), *(number + 1 for number in used)])


def publish(
    source_dir: str | Path,
    base_path: str | Path,
    version: int,
    copy_tree: Callable[[Path, Path], object] = shutil.copytree,
) -> Path:
    """Copies a SavedModel to `<base_path>/<version>` in one visible step, and returns that folder.

    Leftovers of killed pushes are removed first; the lock, which dies with its process, shows that they are.

    Raises:
        ReleaseError: the source is no SavedModel, the version is there already, or the copy failed.
    """
    source, base = Path(source_dir), Path(base_path)
    if not (source / "saved_model.pb").is_file():
        raise ReleaseError(f"{source} cannot be published: it has no saved_model.pb")
    target, temporary = base / str(version), base / f".{version}.tmp"
    with _locked(base, ".publish.lock"):
        for entry in base.iterdir():
            if _TEMPORARY.fullmatch(entry.name):
                shutil.rmtree(entry)
        if target.exists():
            raise ReleaseError(f"version {version} is in {base} already; take the next version")
        try:
            copy_tree(source, temporary)
            os.rename(temporary, target)  # one file system, so it is there as a whole or not at all
        except (OSError, shutil.Error) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise ReleaseError(f"version {version} could not be copied to {base}: {error}") from error
    return target


def quarantined_path(base_path: str | Path) -> Path:
    """Where versions go that are taken out of the base path as bad."""
    return Path(base_path).parent / "quarantined"


def quarantine_files(base_path: str | Path, version: int) -> Path:
    """Moves a version out of the base path in one step, unless that is done, and returns its new folder.

    Raises ReleaseError when the move fails.
    """
    base, target = Path(base_path), quarantined_path(base_path) / str(version)
    source = base / str(version)
    if target.is_dir() and not source.exists():
        return target
    if not source.is_dir():
        raise ReleaseError(f"version {version} cannot be quarantined: it is not in {base}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        (base / f".quarantined.{version}").touch()  # before the move: the number must never look free
        os.rename(source, target)
    except OSError as error:
        raise ReleaseError(f"version {version} could not be moved to {target.parent}: {error}") from error
    return target


def rollback(registry: Registry, base_path: str | Path, who: str, why: str) -> tuple[Version, Version]:
    """Quarantines what is live and goes back to the newest retired version: (the quarantined version, the live one).

    Spans that only the quarantined version had learned are pending again, unless they are condemned: the next run
    learns them anew.

    Files first, registry second. Killed in between, the bad version is out of service already and the
    registry still calls it live; the same command run again finds the files moved, and only completes the
    registry. The other order would leave the bad version in service, and a second run would quarantine the
    good one.

    Raises:
        RegistryError, ReleaseError: nothing to go back to, or its files are gone; nothing is changed then.
    """
    with one_push_at_a_time(base_path):
        finish_interrupted(registry, base_path, who)
        bad = registry.live()
        if bad is None:
            raise RegistryError("nothing to roll back: no version is live; push one first")
        return _roll_back(registry, base_path, bad, who, why, "rollback")


def quarantine(
    registry: Registry, base_path: str | Path, version: int, who: str, why: str
) -> tuple[Version, Version | None]:
    """Takes a version out for good, as bad: (the quarantined version, what is live now).

    The live one: as a rollback does. A retired one: registry first, files second. Killed in between, nothing goes back
    to it already, no server takes it below a higher number, and the next call moves its files.

    Raises:
        RegistryError, ReleaseError: it is neither live nor retired, or is live and there is nothing to go back to.
    """
    with one_push_at_a_time(base_path):
        finish_interrupted(registry, base_path, who)
        live = registry.live()
        if live and live.version == version:
            return _roll_back(registry, base_path, live, who, why, "quarantine")
        is_in_place = version in complete_versions(base_path)
        registry.quarantine(version, who, why, str(quarantined_path(base_path) / str(version)) if is_in_place else None)
        finish_interrupted(registry, base_path, who)
        return registry.get(version), live


def finish_interrupted(registry: Registry, base_path: str | Path, who: str) -> None:
    """Finishes what was killed after it was decided; call it while one_push_at_a_time.

    A push killed after its files were in place is being served: it is what a rollback is about. A version that is
    quarantined, and whose files are still in place, is moved.
    """
    in_place = complete_versions(base_path)
    live = registry.live()
    for version in reversed(registry.versions()):
        is_newer = live is None or version.version > live.version
        if version.state == "pushing" and is_newer and version.version in in_place:
            registry.finish_push(version.version, who, "its files were in place; finished by the command after it")
        if version.state == "quarantined" and version.version in in_place:
            quarantine_files(base_path, version.version)


def _roll_back(
    registry: Registry, base_path: str | Path, bad: Version, who: str, why: str, action: str
) -> tuple[Version, Version]:
    good = registry.newest_retired()
    if good is None:
        raise RegistryError(
            f"nothing to go back to: {bad.version} is the only version that was ever live and is not quarantined or "
            "removed; push another version, or stop the server"
        )
    served = [number for number in complete_versions(base_path) if number != bad.version]
    if good.version not in served:
        raise ReleaseError(f"cannot go back to version {good.version}: its files are not in {base_path}")
    if max(served) != good.version:
        raise ReleaseError(
            f"cannot go back to version {good.version}: {base_path} holds {max(served)}, a higher number "
            "that the registry does not know as live, and servers would take it; move it away first"
        )
    moved = quarantine_files(base_path, bad.version)
    live = registry.roll_back(bad.version, who, why, str(moved), action=action)
    return registry.get(bad.version), live


@contextmanager
def one_push_at_a_time(base_path: str | Path) -> Iterator[None]:
    """Waits until no push, and nothing that clears up after one, is under way at the base path; holds the others up."""
    with _locked(Path(base_path), ".push.lock"):
        yield


@contextmanager
def _locked(base: Path, name: str) -> Iterator[None]:
    """Holds a lock of the base path; the operating system lets go of it when the process dies."""
    base.mkdir(parents=True, exist_ok=True)
    with open(base / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
