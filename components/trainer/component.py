"""Trainer: hands transformed examples, the catalog and production's model to `trainer.run.run_fn`.

TFX's own Trainer cannot be given a second set of examples (the catalog) or an artifact of ours (production), so this
doorway stands in its place; `run_fn` and its `fn_args` are TFX's.
"""

from pathlib import Path

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelRun, TransformGraph
from tfx.utils import path_utils

from components.artifacts import Production


@component
def Trainer(
    examples: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    catalog_transform_graph: InputArtifact[TransformGraph],
    production: InputArtifact[Production],
    model: OutputArtifact[Model],
    model_run: OutputArtifact[ModelRun],
    config: Parameter[str],
) -> None:
    """Trains on transformed `examples` and `catalog`, warm-started from `production`. `config`: ModelConfig as JSON."""
    from trainer.run import run_fn  # TensorFlow, only where the work is done

    def files(artifact: Examples, split: str) -> list[str]:
        return sorted(map(str, Path(artifact_utils.get_split_uri([artifact], split)).glob("*")))

    production_model = Path(production.uri) / "trainer" / "Format-Serving"
    run_fn(
        FnArgs(
            train_files=files(examples, "train"),
            eval_files=files(examples, "eval"),
            transform_output=transform_graph.uri,
            serving_model_dir=path_utils.serving_model_dir(model.uri),
            model_run_dir=model_run.uri,
            custom_config={
                "config": config,
                "catalog_files": files(catalog, "all"),
                "catalog_transform_output": catalog_transform_graph.uri,
                "production_model": str(production_model) if production_model.exists() else "",
            },
        )
    )
