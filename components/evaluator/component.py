"""Evaluator: judges the servable against production's on the newest data; a blessing with its reasons."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from components.artifacts import Production
from components.evaluator.config import EvaluationConfig

log = logging.getLogger("evergreen.evaluator")


@component(use_beam=True)
def Evaluator(
    examples: InputArtifact[Examples],
    servable: InputArtifact[Model],
    production: InputArtifact[Production],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
    strongest_type: Parameter[str],
    config: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Evaluates on the `eval` split. A worse model is a verdict, not an error. `config`: EvaluationConfig as JSON."""
    from components.evaluator.evaluate import evaluate  # TFMA, only where the work is done

    live = json.loads((Path(production.uri) / "production.json").read_text())
    split = Path(artifact_utils.get_split_uri([examples], "eval"))
    verdict = evaluate(
        pipeline=beam_pipeline,
        servable_path=Path(servable.uri),
        baseline_path=Path(production.uri) / "servable" if live["version"] else None,
        eval_files=sorted(map(str, split.glob("*"))),
        strongest_type=strongest_type,
        config=TypeAdapter(EvaluationConfig).validate_json(config),
        output_path=Path(evaluation.uri),
    )
    verdict = replace(verdict, baseline_version=live["version"])
    (Path(evaluation.uri) / "verdict.json").write_text(json.dumps(verdict.to_json(), indent=2))
    (Path(blessing.uri) / ("BLESSED" if verdict.is_blessed else "NOT_BLESSED")).touch()
    blessing.set_int_custom_property("blessed", int(verdict.is_blessed))
    log.info("%s: %s", "blessed" if verdict.is_blessed else "not blessed", verdict.sentences[0])
