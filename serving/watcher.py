"""Keeps the good versions of one model in service, without a restart and without a gap: by default the newest.

Every poll looks at the base path: load → warm up → switch → drain the old version → unload it. Calls hold a
*lease* on the version that they started with, so a switch never changes the model under a call. A version
that cannot be loaded or warmed up ends with its error, and the last good one stays; it is tried again only
when its files change, or, where there was no memory for it, at every poll. When the newest folder disappears
(a rollback), the now newest is loaded. When nothing that is wanted can be served, what is in service stays: a lost
mount must not take production down.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ModelBroken, ModelNotFound, NoRoom
from serving.memory import available_bytes, check_room
from serving.model import ServedModel
from serving.model_config import ModelSettings
from serving.releases import complete_versions

log = logging.getLogger(__name__)

ENDED_VERSIONS_KEPT = 16
DRAINING_POLL_SECONDS = 0.02

Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class VersionStatus:
    """State of a version in TensorFlow Serving's words: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error: str = ""


class Watcher:
    """The versions of one model: `start` it, then `lease` from it; `poll` is one look."""

    def __init__(
        self,
        settings: ModelSettings,
        load: Callable[[Path, int], ServedModel],
        poll_seconds: float = 1.0,
        room: Callable[[], int] = available_bytes,
    ) -> None:
        """`room`: bytes of memory that are free."""
        self.settings = settings
        self._load = load
        self._poll_seconds = poll_seconds
        self._room = room
        self._served: dict[int, ServedModel] = {}
        self._draining: list[ServedModel] = []
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._was_empty = False

    def start(self) -> None:
        """Polls in a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name=f"watch {self.settings.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the polling; what is loaded can still be leased."""
        self._stopping.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join()

    def configure(self, settings: ModelSettings) -> None:
        """Other versions or labels of the same model; the next poll is now."""
        self.settings = settings
        self._awake.set()

    def retire_all(self) -> None:
        """After `stop`: takes every version out of service, and unloads it when its last call is done."""
        self._retire(set(self._served))
        while self._draining:
            self._unload_drained()
            time.sleep(DRAINING_POLL_SECONDS)

    @contextmanager
    def lease(self, version: int | None = None) -> Iterator[ServedModel]:
        """Holds the newest served version (or exactly `version`) in memory.

        Raises ModelNotFound if it is not in service.
        """
        with self._changed:
            asked = self._newest() if version is None else version
            model = None if asked is None else self._served.get(asked)
            if model is None:
                name = self.settings.name
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise ModelNotFound(f"Servable not found for request: {wanted}")
            model.users.enter()
        try:
            yield model
        finally:
            model.users.leave()

    @property
    def is_available(self) -> bool:
        """Whether any version is in service."""
        return bool(self._served)

    @property
    def newest_served(self) -> int | None:
        """The version that calls get which name none."""
        with self._changed:
            return self._newest()

    @property
    def newest_broken(self) -> int | None:
        """The newest version in the base path that could not be loaded or warmed up."""
        return max(tuple(self._failed), default=None)

    def statuses(self) -> list[VersionStatus]:
        """The versions seen so far, newest first."""
        with self._changed:
            return sorted(self._statuses.values(), key=lambda status: -status.version)

    def wait_until_available(self, timeout_seconds: float | None = None, version: int | None = None) -> int | None:
        """Waits until some version, or that one, is in service, and returns its number.

        None when the time is over, or as soon as that version is known to be broken.
        """

        def served() -> int | None:
            return self._newest() if version is None else version if version in self._served else None

        def is_broken() -> bool:
            return version in self._failed

        with self._changed:
            self._changed.wait_for(lambda: served() is not None or is_broken(), timeout_seconds)
            return served()

    def poll(self) -> None:
        """One look at the base path; what it finds is in service when this returns."""
        self._unload_drained()
        policy, on_disk = self.settings.policy, complete_versions(self.settings.base_path)
        self._failed = {version: seen for version, seen in self._failed.items() if version in on_disk}
        self._say_when_empty(not on_disk)
        if dead := {version for version, model in self._served.items() if not model.is_alive}:
            log.error("%s version %s has ended and is started again", self.settings.name, sorted(dead))
            self._retire(dead)
        good: set[int] = set()
        for version in policy.candidates(on_disk):
            if len(good) != policy.at_most and (version in self._served or self._bring_up(version, on_disk[version])):
                good.add(version)
        if good:
            self._retire(set(self._served) - good)
            self._unload_drained()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:  # a file system that is away for a moment must not end the watch
                log.exception("cannot look at %s; trying again", self.settings.base_path)
            self._awake.wait(self._poll_seconds)
            self._awake.clear()

    def _bring_up(self, version: int, path: Path) -> bool:
        """Loads, warms up and switches to a version; False when it is broken, or was and has not changed."""
        try:
            fingerprint = _fingerprint(path)
            if self._failed.get(version) == fingerprint:
                return False
            check_room(path, self._room())
            self._set_status(VersionStatus(version, "LOADING"))
            model = self._load(path, version)
            try:
                model.warm_up()
            except ModelBroken:
                _close(model)
                raise
        except (ModelBroken, OSError) as error:
            said = f"version {version} cannot be read" if isinstance(error, OSError) else str(error)
            if self._statuses.get(version) != VersionStatus(version, "END", said):
                log.error("%s version %s stays out of service: %s", self.settings.name, version, said)
            self._failed[version] = () if isinstance(error, OSError | NoRoom) else fingerprint
            self._set_status(VersionStatus(version, "END", said))
            return False
        self._failed.pop(version, None)
        with self._changed:
            self._served[version] = model
            self._statuses[version] = VersionStatus(version, "AVAILABLE")
            self._changed.notify_all()
        log.info("now serving %s version %s", self.settings.name, version)
        return True

    def _retire(self, versions: set[int]) -> None:
        """Gives the versions no new calls; they are unloaded when those under way are done."""
        with self._changed:
            for version in versions:
                self._draining.append(self._served.pop(version))
                self._statuses[version] = VersionStatus(version, "UNLOADING")

    def _newest(self) -> int | None:
        return max(self._served, default=None)

    def _unload_drained(self) -> None:
        """Lets go of old versions that no call uses any more."""
        with self._changed:
            done = [model for model in self._draining if not model.users.count]
            self._draining = [model for model in self._draining if model not in done]
            for model in done:
                if self._statuses[model.version].state == "UNLOADING":  # a rollback may have brought it back
                    self._statuses[model.version] = VersionStatus(model.version, "END")
            ended = sorted(v for v, status in self._statuses.items() if status.state == "END")
            for version in ended[:-ENDED_VERSIONS_KEPT]:
                del self._statuses[version]
        for model in done:
            _close(model)

    def _set_status(self, status: VersionStatus) -> None:
        with self._changed:
            self._statuses[status.version] = status
            self._changed.notify_all()

    def _say_when_empty(self, is_empty: bool) -> None:
        if is_empty and not self._was_empty:
            stays = f"; version {self._newest()} stays in service" if self._served else ": waiting for the first"
            log.warning("no version of %s in %s%s", self.settings.name, self.settings.base_path, stays)
        self._was_empty = is_empty


def _close(model: ServedModel) -> None:
    try:
        model.close()
    except Exception:  # what it holds is lost until the process ends; the version that is served must not be
        log.exception("version %s did not end as it should", model.version)


def _fingerprint(path: Path) -> Fingerprint:
    """What tells whether any file of a version changed: names, sizes, modification times."""
    entries = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return tuple((str(e.relative_to(path)), e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
