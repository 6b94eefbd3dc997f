"""The configuration: one tree of frozen dataclasses, read from one YAML file. There is no other configuration."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from components.data_gate.config import GateConfig
from components.errors import EvergreenError
from components.evaluator.config import EvaluationConfig
from components.index_builder.config import IndexConfig
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.pusher.config import PusherConfig
from components.servable_validator.config import ValidatorConfig
from pipeline.cluster_config import IN_ONE_PROCESS, ClusterConfig
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import STRICT
from trainer.search_space import TuningConfig


class ConfigError(EvergreenError):
    """The configuration cannot be used; the message names the file and the key."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PipelineConfig:
    """Everything that a pipeline is told. Paths are absolute after `read_config`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    data_root: str
    contract: DataContract
    schema_dir: str | None = None  # interactions.pbtxt and catalog.pbtxt; None: inferred from each run's data
    examples: ExamplesConfig = Field(default_factory=lambda: ExamplesConfig())
    gate: GateConfig = Field(default_factory=lambda: GateConfig())
    trainer: TrainerConfig = Field(default_factory=lambda: TrainerConfig())
    tuning: TuningConfig = Field(default_factory=lambda: TuningConfig())
    index: IndexConfig = Field(default_factory=lambda: IndexConfig())
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig())
    validator: ValidatorConfig = Field(default_factory=lambda: ValidatorConfig())
    pusher: PusherConfig = Field(default_factory=lambda: PusherConfig())
    kubeflow: ClusterConfig = Field(default_factory=lambda: ClusterConfig())
    beam_pipeline_args: tuple[str, ...] = IN_ONE_PROCESS

    def __post_init__(self) -> None:
        types, seen = self.contract.features().interaction_types, self.index.exclude_seen
        if not isinstance(seen, bool) and (unknown := sorted(set(seen) - set(types))):
            raise ValueError(f"index.exclude_seen names the types {unknown}; the contract has {sorted(types)}")

    @property
    def model(self) -> ModelConfig:
        """What the Trainer gets: its leaf, the declared features, how far it looks back, what it never recommends."""
        features = self.contract.features()
        return ModelConfig(
            trainer=self.trainer,
            features=features,
            max_history=self.examples.max_history,
            exclude_seen=self.index.exclude_seen,
        )


def to_json(leaf: Any) -> str:
    """A leaf (or the tree) as JSON: how a component's parameter carries it."""
    return TypeAdapter(type(leaf)).dump_json(leaf).decode()


def read_config(path: Path, data_root: str | None = None) -> PipelineConfig:
    """Reads and checks a YAML file. Its relative paths start at the file's folder.

    `data_root` overrides the file's; a relative one starts at the working folder.

    Raises:
      ConfigError: the file is missing or not YAML, a key is unknown or a value out of its bounds.
    """
    path = path.absolute()
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}; name one with --config (see examples/movielens/config.yaml)")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, expected keys and values such as 'name: movielens'")
    tree["data_root"] = _from(Path.cwd(), data_root) if data_root else _from(path.parent, tree.get("data_root", "data"))
    if tree.get("schema_dir"):
        tree["schema_dir"] = _from(path.parent, tree["schema_dir"])
    try:
        return TypeAdapter(PipelineConfig).validate_python(tree)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_in_words, error.errors()))) from error


def _from(folder: Path, place: Any) -> Any:
    """A relative path from `folder` on; `gs://…` and the like, and what is no text, as it is."""
    return str(folder / place) if isinstance(place, str) and "://" not in place else place


def _in_words(problem: Any) -> str:
    place = tuple(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        return f"unknown key {'.'.join(place)}; known here: {', '.join(_known_keys(place[:-1]))}"
    return f"{'.'.join(place) or 'configuration'}: {problem['msg']} (got {problem['input']!r})"


def _known_keys(place: tuple[str, ...]) -> list[str]:
    """The keys of the leaf at `place`, read off the schema."""
    schema = TypeAdapter(PipelineConfig).json_schema()
    node = schema
    for part in place:
        named = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        node = node.get("items", node) if part.isdigit() else named
        for option in (node, *node.get("anyOf", ())):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[1]]
    return sorted(node.get("properties", {}))
