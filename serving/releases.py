"""The files of versions: numbered folders under a base path, each complete or absent.

What there is:

    <base>/<version>/saved_model.pb   what TensorFlow Serving and our server watch; the highest is served
    <base>/.<version>.tmp/            a push under way, or what a killed push left; no server looks at it
    <base>/.withdrawn.<version>       an empty mark: this number was rolled back, never use it again
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

_NUMBERED = re.compile(r"(?:|\.withdrawn\.)(\d+)|\.(\d+)\.tmp", re.ASCII)
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


def withdraw_files(base_path: str | Path, version: int, withdrawn_path: str | Path) -> Path:
    """Moves a version out of the base path in one step, unless that is done, and returns its new folder.

    `withdrawn_path` must be on the file system of the base path. Raises ReleaseError when the move fails.
    """
    base, withdrawn = Path(base_path), Path(withdrawn_path)
    source, target = base / str(version), withdrawn / str(version)
    if target.is_dir() and not source.exists():
        return target
    if not source.is_dir():
        raise ReleaseError(f"version {version} cannot be withdrawn: it is not in {base}")
    try:
        withdrawn.mkdir(parents=True, exist_ok=True)
        (base / f".withdrawn.{version}").touch()  # before the move: the number must never look free
        os.rename(source, target)
    except OSError as error:
        raise ReleaseError(f"version {version} could not be moved to {withdrawn}: {error}") from error
    return target


def rollback(
    registry: Registry, base_path: str | Path, withdrawn_path: str | Path, who: str, why: str
) -> tuple[Version, Version]:
    """Goes back to the newest retired version: (the withdrawn version, the live one).

    Spans that only the withdrawn version had learned are pending again, unless they are condemned: the next run learns
    them anew.

    Files first, registry second. Killed in between, the bad version is out of service already and the
    registry still calls it live; the same command run again finds the files moved, and only completes the
    registry. The other order would leave the bad version in service, and a second run would withdraw the
    good one.

    Raises:
        RegistryError, ReleaseError: nothing to go back to, or its files are gone; nothing is changed then.
    """
    with one_push_at_a_time(base_path):
        return _rollback(registry, base_path, withdrawn_path, who, why)


def _rollback(
    registry: Registry, base_path: str | Path, withdrawn_path: str | Path, who: str, why: str
) -> tuple[Version, Version]:
    _finish_interrupted_pushes(registry, base_path, who)
    bad, good = registry.live(), registry.newest_retired()
    if bad is None:
        raise RegistryError("nothing to roll back: no version is live; push one first")
    if good is None:
        raise RegistryError(
            f"nothing to go back to: {bad.version} is the only version that was ever live and not withdrawn; "
            "push another version, or stop the server"
        )
    served = [number for number in complete_versions(base_path) if number != bad.version]
    if good.version not in served:
        raise ReleaseError(f"cannot go back to version {good.version}: its files are not in {base_path}")
    if max(served) != good.version:
        raise ReleaseError(
            f"cannot go back to version {good.version}: {base_path} holds {max(served)}, a higher number "
            "that the registry does not know as live, and servers would take it; move it away first"
        )
    moved = withdraw_files(base_path, bad.version, withdrawn_path)
    live = registry.withdraw(bad.version, who, why, uri=str(moved))
    condemned = {record.span for record in registry.spans() if record.state == "condemned"}
    for span in sorted(set(bad.manifest.get("spans", ())) - set(live.manifest.get("spans", ())) - condemned):
        reason = f"version {bad.version}, which had learned it, was rolled back: {why}"
        registry.record_span(span, "pending", {"reasons": [reason]}, run=str(moved))
    return registry.get(bad.version), live


def _finish_interrupted_pushes(registry: Registry, base_path: str | Path, who: str) -> None:
    """A push killed after its files were in place is being served: it is what a rollback is about."""
    in_place = complete_versions(base_path)
    live = registry.live()
    for pushed in reversed(registry.versions()):
        is_newer = live is None or pushed.version > live.version
        if pushed.state == "pushing" and is_newer and pushed.version in in_place:
            registry.finish_push(pushed.version, who, "its files were in place; finished before a rollback")


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
