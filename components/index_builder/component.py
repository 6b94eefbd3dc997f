"""IndexBuilder: the Trainer's model in, one servable with its index and all signatures out."""

import json
from pathlib import Path

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model

from components.artifacts import Production
from components.index_builder.config import IndexConfig


@component
def IndexBuilder(
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    users: InputArtifact[Examples],
    production: InputArtifact[Production],
    servable: OutputArtifact[Model],
    config: Parameter[str],
) -> None:
    """Packs `model` with the state of `users`; measures its index on queries of the eval split of `examples`.

    What is not available in `production` is not available here. `config` is the JSON of IndexConfig.
    Raises BuildError when the model or the index cannot be served.
    """
    from components.availability import list_of
    from components.index_builder.pack import pack  # TensorFlow and ScaNN, only where the work is done

    def files(artifact: Examples, split: str) -> list[str]:
        return sorted(map(str, Path(artifact_utils.get_split_uri([artifact], split)).glob("*")))

    pack(
        model_path=Path(model.uri) / "Format-Serving",
        user_files=files(users, "all"),
        train_files=files(examples, "train"),
        eval_files=files(examples, "eval"),
        summary=json.loads((Path(examples.uri) / "summary.json").read_text()),
        config=TypeAdapter(IndexConfig).validate_json(config),
        output_path=Path(servable.uri),
        unavailable=list_of(Path(production.uri) / "servable"),
    )
