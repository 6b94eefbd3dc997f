"""A compiled package as a file: what it is of, and which version."""

import hashlib
import json
import re
from pathlib import Path

import yaml

from evergreen_kubeflow.errors import ClusterError

SCHEMA = "2.1.0"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


def check_name(pipeline: str) -> None:
    """Raises ClusterError when Kubeflow Pipelines would not take the name."""
    if not NAME.fullmatch(pipeline):
        raise ClusterError(
            f"Kubeflow Pipelines takes no name like {pipeline!r}; use a-z, 0-9 and - in the configuration's name"
        )


def read_package(path: Path, pipeline: str) -> str:
    """The name of a package's version: a digest of what it says, so that the same package is the same version.

    Raises:
      ClusterError: it is missing, or not a package that Kubeflow Pipelines takes, or of another pipeline.
    """
    if not path.is_file():
        raise ClusterError(f"no package at {path}; make one: evergreen kubeflow compile --config … --output {path}")
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    spec = documents[0] if documents and isinstance(documents[0], dict) else {}
    name, schema = (spec.get("pipelineInfo") or {}).get("name"), spec.get("schemaVersion")
    if path.suffix not in (".yaml", ".yml") or not name or schema != SCHEMA:
        got = f"schemaVersion {schema!r}, pipelineInfo.name {name!r}"
        raise ClusterError(
            f"{path} is no package: got {got}; expected a .yaml file of `evergreen kubeflow compile`, {SCHEMA}"
        )
    if name != pipeline:
        raise ClusterError(
            f"{path} is of pipeline {name!r}, the configuration of {pipeline!r}; compile it again or name its own"
        )
    check_name(name)
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()[:12]
