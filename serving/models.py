"""All models of a server, each with its watcher; which they are can change while it serves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.errors import InvalidInput, ModelNotFound, StartFailed
from serving.model import ServedModel
from serving.model_config import ModelSettings
from serving.watcher import VersionStatus, Watcher

log = logging.getLogger(__name__)

RELOAD_SECONDS = 120.0  # in which what a new list names has to be in service


class Models:
    """The watchers by name: `start` them, `lease` a model from one, `reload` another list of models."""

    def __init__(
        self, settings: Sequence[ModelSettings], load: Callable[[Path, int], ServedModel], poll_seconds: float = 1.0
    ) -> None:
        self._load = load
        self._poll_seconds = poll_seconds
        self._watchers = {one.name: Watcher(one, load, poll_seconds) for one in settings}
        self._reloading = threading.Lock()

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """Those of all models, in the order of the configuration."""
        return tuple(self._watchers.values())

    @property
    def names(self) -> Collection[str]:
        """Of all models."""
        return self._watchers.keys()

    def readiness(self) -> dict[str, bool]:
        """Whether each model has a version in service."""
        return {name: watcher.is_available for name, watcher in self._watchers.items()}

    def start(self) -> None:
        """Every watcher polls in a thread of its own until `stop`."""
        for watcher in self.watchers:
            watcher.start()

    def stop(self) -> None:
        """Ends the polling; what is loaded can still be leased."""
        for watcher in self.watchers:
            watcher.stop()

    def retire_all(self) -> None:
        """After `stop`: unloads every version when its last call is done."""
        for watcher in self.watchers:
            watcher.retire_all()

    def reload(self, settings: Sequence[ModelSettings], timeout_seconds: float) -> None:
        """Serves these models, and no others: new ones are loaded first, those that are gone are drained last.

        Raises:
            StartFailed: a model, or a version that a label names, is not in service in time; all is served as the new
                list says, and what is missing as soon as it can be.
        """
        with self._reloading:
            before, after = self._watchers, {}
            for one in settings:
                old = before.get(one.name)
                after[one.name] = old if old and old.settings.base_path == one.base_path else self._started(one)
                after[one.name].configure(one)
            deadline = time.monotonic() + timeout_seconds
            wanted: list[tuple[Watcher, int | None]] = []
            for one in settings:
                wanted += [(after[one.name], version) for version in sorted(one.labels.values()) or (None,)]
            late = [
                watcher.settings.name + (f" version {version}" if version else "")
                for watcher, version in wanted
                if watcher.wait_until_available(max(0.0, deadline - time.monotonic()), version) is None
            ]
            self._watchers = after
            for name, watcher in before.items():
                if after.get(name) is not watcher:
                    watcher.stop()
                    watcher.retire_all()
        log.info("serving the models %s", ", ".join(after))
        if late:
            raise StartFailed(f"not in service after {timeout_seconds:g} s: {', '.join(late)}; it is tried on")

    @contextmanager
    def lease(self, name: str, version: int | None = None, label: str = "") -> Iterator[ServedModel]:
        """Holds a version of a model in memory: the newest, that one, or the one with that label.

        Raises:
            ModelNotFound: it is not in service.
            InvalidInput: there is no such label.
        """
        with self._find(name, version).lease(self.version_of(name, version, label)) as model:
            yield model

    def version_of(self, name: str, version: int | None, label: str) -> int | None:
        """The version that is meant; None for the newest. Raises as `lease`."""
        if not label:
            return version
        labels = self._find(name, version).settings.labels
        if label not in labels:
            raise InvalidInput(f"Unrecognized servable version label: {label}")
        return labels[label]

    def statuses(self, name: str, version: int | None = None, label: str = "") -> list[VersionStatus]:
        """The states of all known versions, newest first, or of one.

        Raises ModelNotFound where there is none, and InvalidInput for a label that there is not.
        """
        version = self.version_of(name, version, label) if name in self._watchers else version
        known = self._watchers[name].statuses() if name in self._watchers else []
        if version is None:
            if not known:
                raise ModelNotFound(f"Could not find any versions of model {name}")
            return known
        if found := [status for status in known if status.version == version]:
            return found
        raise ModelNotFound(f"Could not find version {version} of model {name}")

    def _find(self, name: str, version: int | None) -> Watcher:
        if not name:
            raise InvalidInput("ModelSpec has no name specified.")
        if name not in self._watchers:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ModelNotFound(f"Servable not found for request: {wanted}")
        return self._watchers[name]

    def _started(self, settings: ModelSettings) -> Watcher:
        watcher = Watcher(settings, self._load, self._poll_seconds)
        watcher.start()
        return watcher
