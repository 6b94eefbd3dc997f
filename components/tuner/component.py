"""Tuner: hands transformed examples and the catalog to `trainer.tuning.tuner_fn`, and writes down what it found.

TFX's own Tuner cannot be given a second set of examples (the catalog), so this doorway stands in its place; `tuner_fn`,
its result and both artifacts are TFX's.
"""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, HyperParameters, TransformGraph, TunerResults


@component
def Tuner(
    examples: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    catalog_transform_graph: InputArtifact[TransformGraph],
    best_hyperparameters: OutputArtifact[HyperParameters],
    tuner_results: OutputArtifact[TunerResults],
    config: Parameter[str],
    tuning: Parameter[str],
) -> None:
    """Searches on transformed `examples` and `catalog`. `config`, `tuning`: ModelConfig and TuningConfig as JSON."""
    from tempfile import TemporaryDirectory

    from tfx.components.tuner.executor import write_best_hyperparameters

    from trainer.tuning import FnArgs, tuner_fn  # TensorFlow and KerasTuner, only where the work is done

    def files(artifact: Examples, split: str) -> list[str]:
        return sorted(map(str, Path(artifact_utils.get_split_uri([artifact], split)).glob("*")))

    with TemporaryDirectory(prefix="tuner-") as folder:
        tuner, fit_kwargs = tuner_fn(
            FnArgs(
                train_files=files(examples, "train"),
                eval_files=files(examples, "eval"),
                transform_output=transform_graph.uri,
                working_dir=folder,
                custom_config={
                    "config": config,
                    "tuning": tuning,
                    "catalog_files": files(catalog, "all"),
                    "catalog_transform_output": catalog_transform_graph.uri,
                },
            )
        )
        tuner.search(**fit_kwargs)
        outputs = {"best_hyperparameters": [best_hyperparameters], "tuner_results": [tuner_results]}
        write_best_hyperparameters(tuner, outputs)
