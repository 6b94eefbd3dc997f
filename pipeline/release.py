"""Another version of a model in production, without another training: the live one, or an older one that is promoted.

Either is a copy under a new number, because servers take the highest.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.availability import read_unavailable, replace_mask
from components.errors import EvergreenError
from components.pusher.push import Parts, Pushed, push
from components.servable_validator.config import ValidatorConfig
from components.servable_validator.probe import probe
from pipeline.places import Destination
from serving.registry import Registry
from serving.registry_records import Version
from serving.releases import complete_versions


def release_availability(
    destination: Destination,
    file: Path,
    who: str,
    why: str,
    validator: ValidatorConfig,
    keep_versions: int | None = None,
) -> Pushed:
    """Copies the live servable with the list's mask, checks it in a model server, and pushes it.

    Args:
      keep_versions: how many keep their files; None: all.

    Raises:
      EvergreenError: nothing is in production, the list cannot be read, or the check failed; nothing was pushed.
      ServingError: the registry or the serving folder refuse; production is as it was.
    """
    unavailable = read_unavailable(file)
    serving, releases = Path(destination.serving_path), Path(destination.releases_path)
    with _opened(destination) as registry:
        live = registry.live()
        if live is None:
            raise EvergreenError("nothing is in production: run the pipeline once, then say what is available")
        with _scratch(serving) as scratch:
            servable = scratch / "servable"
            hidden = replace_mask(serving / str(live.version), servable, unavailable)
            told = f"{hidden}; the model of version {live.version}: {why}"
            parts = _checked_parts(live, servable, releases, scratch, told, validator)
            return push(
                registry,
                parts,
                serving,
                releases,
                None,
                run=str(file.absolute()),
                copy_of=live.version,
                keep_versions=keep_versions,
                who=who,
            )


def promote(
    destination: Destination,
    version: int,
    who: str,
    why: str,
    validator: ValidatorConfig,
    keep_versions: int | None = None,
) -> Pushed:
    """Checks the servable of a retired version in a model server, and pushes it once more: it is live again.

    What production hides now as not available stays hidden. Spans that only the version before it had learned are
    pending again.

    Args:
      keep_versions: how many keep their files; None: all.

    Raises:
      EvergreenError: its files are gone, or the check failed; nothing was pushed.
      ServingError: it is not retired, or the registry or the serving folder refuse; production is as it was.
    """
    serving, releases = Path(destination.serving_path), Path(destination.releases_path)
    with _opened(destination) as registry:
        old = registry.promotable(version)
        servable = serving / str(version)
        if version not in complete_versions(serving) or not (releases / str(version)).is_dir():
            raise EvergreenError(
                f"version {version} cannot be promoted: its files are gone; expected {servable} and "
                f"{releases / str(version)}. Put them back, or promote another (evergreen models list)"
            )
        with _scratch(serving) as scratch:
            parts = _checked_parts(old, servable, releases, scratch, f"version {version} again: {why}", validator)
            return push(
                registry,
                parts,
                serving,
                releases,
                None,
                run=str(servable),
                promoted_from=version,
                keep_versions=keep_versions,
                who=who,
            )


@contextmanager
def _opened(destination: Destination) -> Iterator[Registry]:
    registry = Registry(destination.registry_url)
    try:
        yield registry
    finally:
        registry.close()


@contextmanager
def _scratch(serving: Path) -> Iterator[Path]:
    """A folder beside the servables, where there is room for one more."""
    with tempfile.TemporaryDirectory(prefix=".release-", dir=serving.parent) as folder:
        yield Path(folder)


def _checked_parts(
    version: Version, servable: Path, releases: Path, scratch: Path, told: str, validator: ValidatorConfig
) -> Parts:
    """What a push of `servable` reads: the release of the version that it is a copy of, its verdict and its metrics.

    `told` becomes the first sentence of the verdict. Raises EvergreenError when the model server's check fails.
    """
    report = probe(servable, validator)
    if not report.is_blessed:
        raise EvergreenError(f"nothing was pushed; the check says: {' | '.join(report.reasons)}")
    evaluation, kept = scratch / "evaluation", releases / str(version.version)
    evaluation.mkdir()
    sentences = [told, *version.verdict.get("sentences", [])]
    verdict = version.verdict | {"sentences": sentences, "metrics": version.metrics}
    (evaluation / "verdict.json").write_text(json.dumps(verdict))
    return Parts(
        servable=servable,
        trainer=kept / "trainer",
        statistics=kept / "statistics" / "interactions",
        catalog_statistics=kept / "statistics" / "catalog",
        state=kept / "state",
        evaluation=evaluation,
    )
