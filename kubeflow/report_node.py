"""RunReport: the last node on Kubeflow. What a local run finds in its report, as artifacts that the UI draws.

On one machine the runner writes the report, also of a run that was stopped; here a stopped run's reasons are the last
lines of the log of the step that stopped it, and stand in the output of DataGate.
"""

import json
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
    PushedModel,
)

from components.artifacts import DataVerdict
from evergreen_kubeflow.ui_artifacts import Html, Markdown, RocCurve, ScalarMetrics


@component
def RunReport(
    examples: InputArtifact[Examples],
    gate_verdict: InputArtifact[DataVerdict],
    model_run: InputArtifact[ModelRun],
    servable: InputArtifact[Model],
    evaluation: InputArtifact[ModelEvaluation],
    blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: InputArtifact[PushedModel],
    report: OutputArtifact[Html],
    verdict: OutputArtifact[Markdown],
    metrics: OutputArtifact[ScalarMetrics],
    roc: OutputArtifact[RocCurve],
    pipeline: Parameter[str],
    run_id: Parameter[str],
    config: Parameter[str],
) -> None:
    """Writes the page and the verdict; metrics become properties. `blessing` is read for its lineage alone.

    `config` is the PipelineConfig as JSON, for the page.
    """
    from evergreen_kubeflow.run_facts import facts_of, figures, verdict_text

    facts = facts_of(
        run_id,
        config,
        {
            ("InteractionExampleGen", "examples"): examples,
            ("DataGate", "verdict"): gate_verdict,
            ("Trainer", "model_run"): model_run,
            ("IndexBuilder", "servable"): servable,
            ("Evaluator", "evaluation"): evaluation,
            ("ServableValidator", "blessing"): infra_blessing,
            ("Pusher", "pushed_model"): pushed_model,
        },
    )
    from pipeline.report import artifacts, render, time_spent

    Path(report.uri).write_text(render(facts, pipeline, without=(time_spent, artifacts)), encoding="utf-8")
    Path(verdict.uri).write_text(verdict_text(facts), encoding="utf-8")
    for name, figure in figures(facts).items():
        metrics.set_float_custom_property(name, figure)
    curve = json.loads((Path(evaluation.uri) / "roc.json").read_text())
    roc.set_json_value_custom_property(
        "confidenceMetrics",
        [
            {
                "confidenceThreshold": point["threshold"],
                "falsePositiveRate": point["false_positive_rate"],
                "recall": point["recall"],
            }
            for point in curve
        ],
    )
