"""Pusher: brings a servable that was blessed twice into production."""

import logging
from contextlib import closing
from pathlib import Path

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import (
    Examples,
    ExampleStatistics,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    PushedModel,
)

from components.artifacts import UserState
from components.errors import QuarantinedBefore
from components.pusher.config import PusherConfig
from components.pusher.push import Parts, push
from serving.registry import Registry

log = logging.getLogger("evergreen.pusher")


@component
def Pusher(
    model: InputArtifact[Model],
    trainer_model: InputArtifact[Model],
    statistics: InputArtifact[ExampleStatistics],
    catalog_statistics: InputArtifact[ExampleStatistics],
    examples: InputArtifact[Examples],
    state: InputArtifact[UserState],
    evaluation: InputArtifact[ModelEvaluation],
    blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: OutputArtifact[PushedModel],
    span: Parameter[int],
    registry_url: Parameter[str],
    serving_path: Parameter[str],
    releases_path: Parameter[str],
    code_version: Parameter[str],
    config: Parameter[str],
) -> None:
    """Pushes `model` when the Evaluator and the ServableValidator blessed it and nobody quarantined it; says so.

    `examples` is not read: it ties the pushed version to its data in the lineage.
    `pushed_model` gets the custom properties of TFX's own Pusher, `pushed`, `pushed_destination` and `pushed_version`;
    `why_not` where a person's word stands against it.
    """
    judges = {"the Evaluator": blessing, "the ServableValidator": infra_blessing}
    against = [name for name, given in judges.items() if given.get_int_custom_property("blessed") != 1]
    pushed_model.set_int_custom_property("pushed", 0)
    if against:
        log.info("span %d: not pushed, because %s did not bless the model", span, " and ".join(against))
        return
    parts = Parts(
        servable=Path(model.uri),
        trainer=Path(trainer_model.uri),
        statistics=Path(statistics.uri),
        catalog_statistics=Path(catalog_statistics.uri),
        state=Path(state.uri),
        evaluation=Path(evaluation.uri),
    )
    keep = TypeAdapter(PusherConfig).validate_json(config).keep_versions
    known = {"run": pushed_model.uri, "code_version": code_version, "keep_versions": keep}
    try:
        with closing(Registry(registry_url)) as registry:
            pushed = push(registry, parts, Path(serving_path), Path(releases_path), span, **known)
    except QuarantinedBefore as error:
        log.warning("span %d: not pushed: %s", span, error)
        pushed_model.set_string_custom_property("why_not", str(error))
        return
    pushed_model.set_int_custom_property("pushed", 1)
    pushed_model.set_string_custom_property("pushed_destination", pushed.uri)
    pushed_model.set_string_custom_property("pushed_version", str(pushed.version))
    log.info("span %d: version %d is live: %s", span, pushed.version, pushed.why)
