"""Which models a server serves: TensorFlow Serving's `model.config`, a ModelServerConfig as protobuf text.

model_config_list {
  config {
    name: "recommender"  base_path: "/models/recommender"  model_platform: "tensorflow"
    model_version_policy { specific { versions: 41 versions: 42 } }
    version_labels { key: "stable" value: 41 }
    version_labels { key: "canary" value: 42 }
  }
}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import StartFailed


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served: the newest `latest` that load, or all, or those that are named.

    Of `specific`, the empty tuple stands for no such choice; `latest` None for all.
    """

    latest: int | None = 1
    specific: tuple[int, ...] = ()

    def candidates(self, on_disk: Iterable[int]) -> list[int]:
        """Versions to try, newest first."""
        return sorted((v for v in on_disk if not self.specific or v in self.specific), reverse=True)

    @property
    def at_most(self) -> int | None:
        """How many of the candidates; None for all."""
        return None if self.specific else self.latest


@dataclass(frozen=True)
class ModelSettings:
    """One model: where its versions are, which of them are served, and what callers may call them."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or any(mark in self.name for mark in "/:"):
            raise StartFailed(f"a model name cannot be empty or contain '/' or ':', got {self.name!r}")
        if self.base_path.is_file():
            raise StartFailed(f"{self.base_path} is a file; expected the folder that holds the numbered versions")
        specific = self.policy.specific
        if specific and (unknown := {label: v for label, v in self.labels.items() if v not in specific}):
            raise StartFailed(
                f"model {self.name}: the labels {unknown} name versions that its policy does not serve: "
                f"{list(specific)}"
            )


def read_model_config(path: Path) -> tuple[ModelSettings, ...]:
    """Reads a model.config file. Raises StartFailed that says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        config = text_format.Parse(text, ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise StartFailed(f"{path} is no ModelServerConfig as protobuf text: {error}") from error
    return settings_of(config)


def settings_of(config: ModelServerConfig) -> tuple[ModelSettings, ...]:
    """What the proto says. Raises StartFailed for what this server cannot do."""
    if config.WhichOneof("config") != "model_config_list" or not config.model_config_list.config:
        raise StartFailed("a ModelServerConfig needs a model_config_list with one model at least")
    settings = tuple(map(_settings_of_one, config.model_config_list.config))
    names = [one.name for one in settings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StartFailed(f"model_config_list names {', '.join(twice)} twice; expected each model once")
    return settings


def _settings_of_one(config: ModelConfig) -> ModelSettings:
    if config.model_platform not in ("", "tensorflow"):
        raise StartFailed(f"model {config.name}: model_platform {config.model_platform!r}; only tensorflow is served")
    if not config.base_path:
        raise StartFailed(f"model {config.name} has no base_path")
    return ModelSettings(config.name, Path(config.base_path), _policy_of(config), dict(config.version_labels))


def _policy_of(config: ModelConfig) -> VersionPolicy:
    policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(latest=None)
    if choice == "specific":
        if not policy.specific.versions:
            raise StartFailed(f"model {config.name}: model_version_policy.specific names no version")
        return VersionPolicy(specific=tuple(policy.specific.versions))
    return VersionPolicy(latest=policy.latest.num_versions or 1)
