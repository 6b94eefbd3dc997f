"""ServableValidator: blesses a servable that a model server loads and that answers as its signatures promise."""

import json
import logging
from pathlib import Path

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import InfraBlessing, Model

from components.servable_validator.config import ValidatorConfig
from components.servable_validator.probe import probe

log = logging.getLogger("evergreen.servable_validator")


@component
def ServableValidator(
    model: InputArtifact[Model],
    blessing: OutputArtifact[InfraBlessing],
    config: Parameter[str],
) -> None:
    """Writes `report.json`, an empty `INFRA_BLESSED` or `INFRA_NOT_BLESSED`, and the custom property `blessed`.

    The file names and the property are those of TFX's InfraValidator. `config` is a ValidatorConfig as JSON.
    """
    report = probe(Path(model.uri), TypeAdapter(ValidatorConfig).validate_json(config))
    target = Path(blessing.uri)
    target.mkdir(parents=True, exist_ok=True)
    (target / "report.json").write_text(json.dumps(report.to_json(), indent=2))
    (target / ("INFRA_BLESSED" if report.is_blessed else "INFRA_NOT_BLESSED")).touch()
    blessing.set_int_custom_property("blessed", int(report.is_blessed))
    if report.is_blessed:
        log.info("the servable is blessed: %d checks passed; %s", len(report.checks), report.checks[-1].sentence)
    else:
        log.info("the servable is not blessed: %s", " | ".join(report.reasons))
