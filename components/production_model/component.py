"""ProductionModel: hands what is live to the nodes that compare with it or start from it."""

import logging
from pathlib import Path

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import Production
from components.production_model.look_up import look_up
from serving.registry import Registry

log = logging.getLogger("evergreen.production_model")


@component
def ProductionModel(
    production: OutputArtifact[Production],
    registry_url: Parameter[str],
    serving_path: Parameter[str],
    releases_path: Parameter[str],
    registry_id: Parameter[str],
    live_version: Parameter[int],
    start_version: Parameter[int],
    code_version: Parameter[str],
) -> None:
    """Copies what is in production and what the run goes on from, after it has cleared up what a killed push left.

    Args:
        production: what is live, or `{"version": null, …}` before the first push.
        registry_url: SQLAlchemy URL of the registry.
        serving_path: folder of the numbered servables.
        releases_path: folder of the numbered releases: trainer and statistics of each pushed version.
        registry_id: not read: a new registry runs anew what an old one's run left in the cache.
        live_version: what was live when the run was compiled, 0 for nothing. A parameter, because TFX's cache
            sees parameters and not the registry.
        start_version: what the run goes on from, 0 for nothing; for the same reason.
        code_version: of the packages. Not read: the first node carries it, so that changed code runs anew everywhere.
    """
    registry = Registry(registry_url)
    try:
        places = (Path(serving_path), Path(releases_path))
        found = look_up(registry, *places, live_version, start_version, Path(production.uri))
    finally:
        registry.close()
    production.set_int_custom_property("version", found.version or 0)
    log.info("%s", found)
