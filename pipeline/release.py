"""Another version of the model in production, without another training: what is available has changed."""

import json
import tempfile
from pathlib import Path

from components.availability import read_unavailable, replace_mask
from components.errors import EvergreenError
from components.pusher.push import Parts, Pushed, push
from components.servable_validator.config import ValidatorConfig
from components.servable_validator.probe import probe
from pipeline.places import Places
from serving.registry import Registry


def release_availability(places: Places, file: Path, who: str, why: str, validator: ValidatorConfig) -> Pushed:
    """Copies the live servable with the list's mask, checks it in a model server, and pushes it.

    Raises:
      EvergreenError: nothing is in production, the list cannot be read, or the check failed; nothing was pushed.
      ServingError: the registry or the serving folder refuse; production is as it was.
    """
    unavailable = read_unavailable(file)
    registry = Registry.at(places.registry)
    try:
        live = registry.live()
        if live is None:
            raise EvergreenError("nothing is in production: run the pipeline once, then say what is available")
        kept = places.releases / str(live.version)
        with tempfile.TemporaryDirectory(prefix=".release-", dir=places.root) as folder:
            servable, evaluation = Path(folder) / "servable", Path(folder) / "evaluation"
            hidden = replace_mask(places.serving / str(live.version), servable, unavailable)
            report = probe(servable, validator)
            if not report.is_blessed:
                raise EvergreenError(f"nothing was pushed; the check says: {' | '.join(report.reasons)}")
            evaluation.mkdir()
            told = [f"{hidden}; the model of version {live.version}: {why}", *live.verdict.get("sentences", [])]
            verdict = live.verdict | {"sentences": told, "metrics": live.metrics}
            (evaluation / "verdict.json").write_text(json.dumps(verdict))
            parts = Parts(
                servable=servable,
                trainer=kept / "trainer",
                statistics=kept / "statistics" / "interactions",
                catalog_statistics=kept / "statistics" / "catalog",
                state=kept / "state",
                evaluation=evaluation,
            )
            run = str(file.absolute())
            return push(registry, parts, places.serving, places.releases, None, run=run, copy_of=live.version, who=who)
    finally:
        registry.close()
