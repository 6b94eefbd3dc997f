"""Keeps the newest good version of one model in service, without a restart and without a gap.

Every poll looks at the base path: load → warm up → switch → drain the old version → unload it. Calls hold a
*lease* on the version that they started with, so a switch never changes the model under a call. A version
that cannot be loaded or warmed up ends with its error, and the last good one stays; it is tried again only
when its files change. When the newest folder disappears (a rollback), the now newest is loaded. When all
folders disappear, the last good version stays in service: a lost mount must not take production down.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ModelBroken, ModelNotFound
from serving.model import Model
from serving.releases import complete_versions

log = logging.getLogger(__name__)

ENDED_VERSIONS_KEPT = 16

Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class VersionStatus:
    """State of a version in TensorFlow Serving's words: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error: str = ""


@dataclass
class _Slot:
    """A model in memory and the number of calls that use it now."""

    model: Model
    users: int = 0


class Watcher:
    """The versions of one model: `start` it, then `lease` from it; `poll` is one look."""

    def __init__(
        self,
        name: str,
        base_path: str | Path,
        load: Callable[[Path, int], Model],
        poll_seconds: float = 1.0,
    ) -> None:
        self.name = name
        self.base_path = Path(base_path)
        self._load = load
        self._poll_seconds = poll_seconds
        self._current: _Slot | None = None
        self._draining: list[_Slot] = []
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._was_empty = False

    def start(self) -> None:
        """Polls in a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name=f"watch {self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the polling; what is loaded can still be leased."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def lease(self, version: int | None = None) -> Iterator[Model]:
        """Holds the served version (or exactly `version`) in memory.

        Raises ModelNotFound if it is not in service.
        """
        with self._changed:
            slot = self._current
            if slot is None or version not in (None, slot.model.version):
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise ModelNotFound(f"Servable not found for request: {wanted}")
            slot.users += 1
        try:
            yield slot.model
        finally:
            with self._changed:
                slot.users -= 1

    def statuses(self) -> list[VersionStatus]:
        """The versions seen so far, newest first."""
        with self._changed:
            return sorted(self._statuses.values(), key=lambda status: -status.version)

    def wait_until_available(self, timeout_seconds: float | None = None, version: int | None = None) -> int | None:
        """Waits until some version, or that one, is in service, and returns its number.

        None when the time is over, or as soon as that version is known to be broken.
        """

        def served() -> int | None:
            now = self._current.model.version if self._current else None
            return now if version in (None, now) else None

        def is_broken() -> bool:
            return version in self._failed

        with self._changed:
            self._changed.wait_for(lambda: served() is not None or is_broken(), timeout_seconds)
            return served()

    def poll(self) -> None:
        """One look at the base path; what it finds is in service when this returns."""
        self._unload_drained()
        on_disk = complete_versions(self.base_path)
        self._failed = {version: seen for version, seen in self._failed.items() if version in on_disk}
        self._say_when_empty(not on_disk)
        for version in sorted(on_disk, reverse=True):
            if self._current and version == self._current.model.version:
                return
            if self._bring_up(version, on_disk[version]):
                self._unload_drained()
                return

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:  # a file system that is away for a moment must not end the watch
                log.exception("cannot look at %s; trying again", self.base_path)
            self._stopping.wait(self._poll_seconds)

    def _bring_up(self, version: int, path: Path) -> bool:
        """Loads, warms up and switches to a version; False when it is broken, or was and has not changed."""
        try:
            fingerprint = _fingerprint(path)
            if self._failed.get(version) == fingerprint:
                return False
            self._set_status(VersionStatus(version, "LOADING"))
            model = self._load(path, version)
            try:
                model.warm_up()
            except ModelBroken:
                _close(model)
                raise
        except (ModelBroken, OSError) as error:
            said = str(error) if isinstance(error, ModelBroken) else f"version {version} cannot be read"
            log.error("%s stays out of service: %s", self.name, said)
            self._failed[version] = () if isinstance(error, OSError) else fingerprint
            self._set_status(VersionStatus(version, "END", said))
            return False
        self._failed.pop(version, None)
        self._switch_to(model)
        return True

    def _switch_to(self, model: Model) -> None:
        with self._changed:
            old, self._current = self._current, _Slot(model)
            self._statuses[model.version] = VersionStatus(model.version, "AVAILABLE")
            if old:
                self._draining.append(old)
                self._statuses[old.model.version] = VersionStatus(old.model.version, "UNLOADING")
            self._changed.notify_all()
        was = f" (was {old.model.version})" if old else ""
        log.info("now serving %s version %s%s", self.name, model.version, was)

    def _unload_drained(self) -> None:
        """Lets go of old versions that no call uses any more."""
        with self._changed:
            done = [slot for slot in self._draining if slot.users == 0]
            self._draining = [slot for slot in self._draining if slot.users > 0]
            for slot in done:
                version = slot.model.version
                if self._statuses[version].state == "UNLOADING":  # a rollback may have brought it back
                    self._statuses[version] = VersionStatus(version, "END")
            ended = sorted(v for v, status in self._statuses.items() if status.state == "END")
            for version in ended[:-ENDED_VERSIONS_KEPT]:
                del self._statuses[version]
        if done:
            for slot in done:
                _close(slot.model)
            del done, slot
            gc.collect()  # a loaded SavedModel is full of reference cycles; its memory is wanted back now

    def _set_status(self, status: VersionStatus) -> None:
        with self._changed:
            self._statuses[status.version] = status
            self._changed.notify_all()

    def _say_when_empty(self, is_empty: bool) -> None:
        if is_empty and not self._was_empty:
            stays = f"; version {self._current.model.version} stays in service" if self._current else ""
            log.warning("no version of %s in %s%s", self.name, self.base_path, stays or ": waiting for the first")
        self._was_empty = is_empty


def _close(model: Model) -> None:
    try:
        model.close()
    except Exception:  # what it holds is lost until the process ends; the version that is served must not be
        log.exception("version %s could not give back what it holds", model.version)


def _fingerprint(path: Path) -> Fingerprint:
    """What tells whether any file of a version changed: names, sizes, modification times."""
    entries = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return tuple((str(e.relative_to(path)), e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
