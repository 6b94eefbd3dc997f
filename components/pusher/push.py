"""Pushes one servable with its release, so that a kill at any point leaves either the old or the new version live.

The order, and what a kill after each step leaves for the next call to clear up:

    1  the row, `pushing`                   a row without files: forgotten
    2  <releases>/<version>/                a row and a release without a servable: both removed
    3  <serving>/<version>/                 all files: servers take it, so the push is finished
    4  the row, `live`                      a span that is not noted as learned: noted
    5  the span, `learned`                  old versions that are not cleaned away: the next push does
    6  old versions, `removed`              rows without their files removed: removed (serving/cleaning.py)
"""

import json
import logging
import math
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.availability import list_of, replace_mask
from components.errors import EvergreenError, QuarantinedBefore
from serving.cleaning import remove_old
from serving.errors import ServingError
from serving.registry import Registry
from serving.releases import complete_versions, next_version, one_push_at_a_time, publish

log = logging.getLogger("evergreen.pusher")
WHO = "pipeline"
MANIFEST_NAME = "assets.extra/release.json"
KEPT = ("label", "override", "fingerprint")  # of what the ledger says of a span
OF_THE_PUSH = frozenset(("version", "why", "metrics", "promoted_from"))  # in a manifest, beside what the servable says

CopyTree = Callable[[Path, Path], object]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The folders that a push reads: the servable, what is kept beside it, and the evaluation's verdict."""

    servable: Path
    trainer: Path
    statistics: Path
    catalog_statistics: Path
    state: Path
    evaluation: Path

    def release(self) -> dict[str, Path]:
        """What the next run needs of this version, by its place below `<releases>/<version>`."""
        return {
            "trainer": self.trainer,
            "statistics/interactions": self.statistics,
            "statistics/catalog": self.catalog_statistics,
            "state": self.state,
        }


@dataclass(frozen=True)
class Pushed:
    """A version that is live now, where it is, and why it was pushed."""

    version: int
    uri: str
    why: str


def push(
    registry: Registry,
    parts: Parts,
    serving_path: Path,
    releases_path: Path,
    span: int | None,
    *,
    run: str,
    copy_of: int | None = None,
    promoted_from: int | None = None,
    code_version: str | None = None,
    keep_versions: int | None = None,
    who: str = WHO,
    now: Callable[[], float] = time.time,
    copy_tree: CopyTree = shutil.copytree,
) -> Pushed:
    """Clears up after a killed push, then brings the servable into production under the next version.

    What it is then called, why it was pushed and how good it was found is added to its manifest. What production hides
    as not available stays hidden: where the servable was packed with another list, it gets the one that is live.

    Args:
        span: noted as learned; None where nothing was learned.
        run: noted with the span, so that it can be traced to its artifacts.
        copy_of: the live version, of which the servable is a copy with another list of what is not available.
        promoted_from: the retired version, of which the servable is a copy that is to be live again.
        code_version: of the code that made the servable, for its manifest; None: as its manifest says.
        keep_versions: how many keep their files, as serving/cleaning.py has it; None: all.
        who: for the audit.
        now: seconds since 1970; versions are numbered by it.

    Raises:
        EvergreenError: a file that the push needs is missing; nothing was written.
        QuarantinedBefore: a pushed version, no other than this, was taken out as bad; nothing was written.
        ServingError: the registry or the serving folder refuse; production is as it was.
    """
    verdict = _read_json(parts.evaluation / "verdict.json", "the evaluation")
    _read_json(parts.servable / MANIFEST_NAME, "the servable")
    sources = {"servable": parts.servable, **parts.release()}
    if missing := [f"{name} ({path})" for name, path in sources.items() if not path.is_dir()]:
        raise EvergreenError(f"nothing was pushed: {', '.join(missing)} is no folder; expected the run's outputs")
    with one_push_at_a_time(serving_path), tempfile.TemporaryDirectory() as scratch:
        recover(registry, serving_path, releases_path, run=run)
        live = registry.live()
        if copy_of and (live is None or live.version != copy_of):
            raise EvergreenError(
                f"nothing was pushed: this is version {copy_of} with another list, and "
                f"{live.version if live else 'no version'} is live by now; do the same again"
            )
        if promoted_from:
            registry.promotable(promoted_from)  # what it was before its turn came, it may not be any more
        if live and not copy_of:
            parts = _with_list_of(serving_path / str(live.version), parts, Path(scratch))
        version = next_version(serving_path, now)
        target = serving_path / str(version)
        why = next(iter(verdict.get("sentences", [])), "blessed by the Evaluator and the ServableValidator")
        metrics = verdict.get("metrics", {})
        manifest = _read_json(parts.servable / MANIFEST_NAME, "the servable")
        manifest = _manifest(manifest, version, why, metrics, promoted_from, code_version)
        if not (copy_of or promoted_from):
            _refuse_what_was_quarantined(registry, manifest)

        def copy_with_manifest(source: Path, folder: Path) -> None:
            copy_tree(source, folder)
            (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2))

        registry.begin_push(version, str(target), manifest, metrics, verdict)
        _keep_release(parts, releases_path, version, copy_tree)
        publish(parts.servable, serving_path, version, copy_with_manifest)
        registry.finish_push(version, who, why)
        _note_learned(registry, set() if span is None else {span}, run)
        if keep_versions is not None:
            _clean(registry, serving_path, releases_path, keep_versions, who)
    return Pushed(version, str(target), why)


def recover(registry: Registry, serving_path: Path, releases_path: Path, *, run: str) -> None:
    """Finishes or forgets what a killed push left, in the registry and in both folders.

    Call it when no push is under way (serving.releases.one_push_at_a_time).
    """
    on_disk = complete_versions(serving_path)
    registry.abandon_pushes(lambda pushed: pushed.version in on_disk)
    known = {version.version for version in registry.versions()}
    for entry in releases_path.iterdir() if releases_path.is_dir() else ():
        is_orphan = re.fullmatch(r"\d+", entry.name, re.ASCII) and int(entry.name) not in known
        if is_orphan or re.fullmatch(r"\.\d+\.tmp", entry.name, re.ASCII):
            shutil.rmtree(entry)
    _note_learned(registry, set(), run)


def _manifest(
    packed: dict[str, Any],
    version: int,
    why: str,
    metrics: dict[str, Any],
    promoted_from: int | None,
    code_version: str | None,
) -> dict[str, Any]:
    """What the servable was packed with, and what the push knows of it."""
    figures = {name: value if value is None or math.isfinite(value) else None for name, value in metrics.items()}
    kept = {name: value for name, value in packed.items() if name != "promoted_from"}  # of a push before
    known = {"promoted_from": promoted_from, "code_version": code_version}
    told = {name: value for name, value in known.items() if value is not None}
    return kept | {"version": version, "why": why, "metrics": figures} | told  # JSON has no NaN


def _refuse_what_was_quarantined(registry: Registry, manifest: dict[str, Any]) -> None:
    """The same data, configuration and code make the same model again, once a rollback has its spans learned anew."""
    of_version = {version.version: version.manifest for version in registry.versions()}
    for line in registry.audit():
        was = of_version.get(line.from_version or 0)
        if line.action in ("rollback", "quarantine") and was and _of_servable(was) == _of_servable(manifest):
            raise QuarantinedBefore(
                f"this is version {line.from_version} once more, which {line.who} took out as bad: {line.why}. "
                "Leave out what it should not have learned (evergreen spans condemn), or change configuration or code"
            )


def _of_servable(manifest: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name not in OF_THE_PUSH}


def _clean(registry: Registry, serving_path: Path, releases_path: Path, keep: int, who: str) -> None:
    """The push is done by now, and stays so where files cannot be removed: the next one tries again."""
    try:
        gone = remove_old(registry, serving_path, releases_path, keep, who)
    except (OSError, ServingError) as error:
        log.warning("old versions could not be cleaned away, the next push tries again: %s", error)
    else:
        if gone:
            log.info("cleaned away: %s", ", ".join(f"version {version}" for version in gone))


def _with_list_of(live: Path, parts: Parts, scratch: Path) -> Parts:
    """The same parts; where `live` hides other items than the servable, with a copy of it that hides those."""
    unavailable = list_of(live)
    if set(unavailable) == set(list_of(parts.servable)):
        return parts
    hidden = replace_mask(parts.servable, scratch / "servable", unavailable)
    log.info("what is available changed since the servable was packed: %s, as in version %s", hidden, live.name)
    return replace(parts, servable=scratch / "servable")


def _note_learned(registry: Registry, spans: set[int], run: str) -> None:
    """Notes `spans`, and those of the live version that are still pending, as learned by it."""
    live = registry.live()
    if live:
        known = {record.span: record for record in registry.spans()}
        pending = {span for span, record in known.items() if record.state == "pending"}
        for span in sorted(spans | pending.intersection(live.manifest.get("spans", []))):
            told = {name: known[span].verdict[name] for name in KEPT if span in known and name in known[span].verdict}
            registry.record_span(span, "learned", live.verdict | {"version": live.version} | told, run)


def _keep_release(parts: Parts, releases_path: Path, version: int, copy_tree: CopyTree) -> None:
    temporary, target = releases_path / f".{version}.tmp", releases_path / str(version)
    (temporary / "statistics").mkdir(parents=True)
    for name, source in parts.release().items():
        copy_tree(source, temporary / name)
    temporary.rename(target)


def _read_json(path: Path, whose: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EvergreenError(f"nothing was pushed: {whose} has no readable {path.name} at {path} ({error})") from error
    if not isinstance(document, dict):
        raise EvergreenError(f"nothing was pushed: {path} holds {type(document).__name__}; expected an object")
    return document
