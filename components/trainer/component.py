"""Trainer: hands transformed examples, the catalog and production's model to `trainer.run.run_fn`.

TFX's own Trainer cannot be given a second set of examples (the catalog) or an artifact of ours (production), so this
doorway stands in its place; `run_fn` and its `fn_args` are TFX's. They are also left beside the run, as `fn_args.json`:
with that file `python -m trainer` does the same work elsewhere, on one machine or several.
"""

import json
from pathlib import Path

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
    """Trains on transformed `examples` and `catalog`, from where `production` says. `config`: ModelConfig as JSON."""
    from trainer.run import FN_ARGS, FnArgs, run_fn  # TensorFlow, only where the work is done

    def files(artifact: Examples, split: str) -> list[str]:
        return sorted(map(str, Path(artifact_utils.get_split_uri([artifact], split)).glob("*")))

    began = json.loads((Path(production.uri) / "production.json").read_text())
    production_model = Path(production.uri) / "trainer" / "Format-Serving"
    fn_args = FnArgs(
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
            "start_version": began["start_version"],
            "start_because": began["start_because"],
        },
    )
    Path(model_run.uri).mkdir(parents=True, exist_ok=True)
    (Path(model_run.uri) / "fn_args.json").write_bytes(FN_ARGS.dump_json(fn_args, indent=2))
    run_fn(fn_args)
