"""The backend's JSON and TFX's artifacts, one into the other.

What the backend does to an artifact on its way from one step to the next (kubeflow/pipelines, backend/src/v2):

    its TFX type        lost: a step is told the types of its keys
    its metadata        integers and booleans come back as floats, lists as {"list": […]}, objects as {"struct": {…}},
                        and `display_name` and `store_session_info` join them
    its place           an object's URI, whose file or folder the launcher has put below /minio, /s3 or /gcs
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx.types.artifact import Artifact, PropertyType
from tfx.utils import import_utils

from components.errors import EvergreenError

MOUNTS = {"minio": "minio", "s3": "s3", "gs": "gcs"}
ADDED_BY_THE_BACKEND = ("display_name", "store_session_info")


@dataclass(frozen=True)
class Node:
    """What the package tells a step of its node: what to run, and the types that the backend loses.

    parameters: by name, `int`, `float`, `str`, or the import path of a proto message that arrives as JSON.
    """

    id: str
    executor: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]

    @classmethod
    def from_json(cls, text: str) -> Node:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})


def local_path(uri: str, root: Path) -> str:
    """Where the launcher keeps `<scheme>://<key>`: `/<mount>/<key>`. Anything else is a path already."""
    scheme, separator, key = uri.partition("://")
    if not separator:
        return uri
    if scheme not in MOUNTS:
        raise EvergreenError(
            f"the artifact store {uri!r} is not known here; known: {', '.join(f'{name}://' for name in MOUNTS)}. "
            "Correct kubeflow.pipeline_root"
        )
    return str(root / MOUNTS[scheme] / key)


def read_artifacts(lists: Mapping[str, Any], types: Mapping[str, str], root: Path) -> dict[str, list[Artifact]]:
    """`inputs.artifacts` or `outputs.artifacts` → TFX artifacts with local URIs; a key that is absent has none."""
    return {
        key: [
            _read(given, import_utils.import_class_by_path(path), root)
            for given in lists.get(key, {}).get("artifacts", ())
        ]
        for key, path in types.items()
    }


def read_parameters(
    values: Mapping[str, Any], types: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """`inputs.parameterValues` → execution properties of their own types; `${NAME}` is taken from the environment."""
    return {name: _parameter(name, value, types.get(name, "str"), environment) for name, value in values.items()}


def read_values(slots: Mapping[str, Any], types: Mapping[str, str], folder: Path) -> dict[str, list[Artifact]]:
    """`outputs.parameters` → TFX's value artifacts: how an executor hands on a value."""
    values = {key: import_utils.import_class_by_path(types[key])() for key in slots}
    for key, artifact in values.items():
        artifact.uri = str(folder / key)
    return {key: [artifact] for key, artifact in values.items()}


def executor_output(
    slots: Mapping[str, Any], outputs: Mapping[str, list[Artifact]], values: Mapping[str, list[Artifact]]
) -> dict[str, Any]:
    """What the backend is told after: `slots` are the `outputs.artifacts` that it gave."""
    return {
        "artifacts": {
            key: {
                "artifacts": [
                    {"name": slot.get("name", ""), "uri": slot["uri"], "metadata": artifact_metadata(made)}
                    for slot, made in zip(slots[key]["artifacts"], outputs[key], strict=True)
                ]
            }
            for key in slots
            if key in outputs
        },
        "parameterValues": {key: artifact.read() for key, (artifact,) in values.items()},
    }


def artifact_metadata(artifact: Artifact) -> dict[str, Any]:
    """Properties, declared and custom, as the backend takes them: JSON, which has no NaN, and without null."""
    message, plain = artifact.mlmd_artifact, {}
    for properties in (message.properties, message.custom_properties):
        for key, value in properties.items():
            kind = value.WhichOneof("value")
            if kind == "struct_value":
                plain[key] = artifact.get_json_value_custom_property(key)
            elif kind:
                plain[key] = getattr(value, kind)
    return {key: value for key, value in plain.items() if not _is_no_figure(value)}


def _is_no_figure(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _read(given: Mapping[str, Any], cls: type[Artifact], root: Path) -> Artifact:
    artifact = cls()
    artifact.uri = local_path(given["uri"], root)
    declared = {name: known.type for name, known in (cls.PROPERTIES or {}).items()}
    for key, value in given.get("metadata", {}).items():
        if key in ADDED_BY_THE_BACKEND or value is None:
            continue
        if isinstance(value, dict) and set(value) in ({"list"}, {"struct"}):
            (value,) = value.values()
        kind = declared.get(key)
        if kind == PropertyType.INT:
            artifact.mlmd_artifact.properties[key].int_value = int(value)
        elif kind == PropertyType.FLOAT:
            artifact.mlmd_artifact.properties[key].double_value = float(value)
        elif kind == PropertyType.STRING:
            artifact.mlmd_artifact.properties[key].string_value = str(value)
        elif isinstance(value, str):
            artifact.set_string_custom_property(key, value)
        elif isinstance(value, float) and value.is_integer():  # it was an integer or a boolean, which TFX keeps so too
            artifact.set_int_custom_property(key, int(value))
        elif isinstance(value, float):
            artifact.set_float_custom_property(key, value)
        else:
            artifact.set_json_value_custom_property(key, value)
    return artifact


def _parameter(name: str, value: Any, kind: str, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        variable = value[2:-1]
        if variable not in environment:
            raise EvergreenError(
                f"the parameter {name} is kept in the environment variable {variable}, which this pod does not have; "
                "create the Secret that the configuration names under kubeflow.registry or kubeflow.secrets"
            )
        value = environment[variable]
    if kind in ("int", "float", "str"):
        return {"int": int, "float": float, "str": str}[kind](value)
    return json_format.Parse(value, import_utils.import_class_by_path(kind)())
