"""Beam workers outside the pod do not see the pod's folders: artifacts go through a place that both see."""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact
from tfx.types.value_artifact import ValueArtifact
from tfx.utils import io_utils

from components.errors import EvergreenError

log = logging.getLogger("evergreen.beam_scratch")


class _Move(NamedTuple):
    """An artifact's way from its place in the pod to the scratch folder."""

    artifact: Artifact
    home: str
    away: str


@contextmanager
def by_way_of(
    scratch: str | None, inputs: Mapping[str, Sequence[Artifact]], outputs: Mapping[str, Sequence[Artifact]]
) -> Iterator[None]:
    """Meanwhile all artifacts are in a folder of their own below `scratch`; None: they stay where they are.

    Inputs are copied there before, outputs back after, and the folder is removed, also when the work failed; what had
    been written is then not copied back. Values stay: the executor writes them, never a worker.

    Raises:
      EvergreenError: `scratch` cannot be written.
    """
    if scratch is None:
        yield
        return
    folder = f"{scratch.rstrip('/')}/{uuid.uuid4().hex}"
    fetched, made = _moves(inputs, f"{folder}/inputs"), _moves(outputs, f"{folder}/outputs")
    try:
        _make(folder, scratch)
        for move in fetched:
            io_utils.copy_dir(move.home, move.away)
        for move in made:
            fileio.makedirs(move.away)
        for move in (*fetched, *made):
            move.artifact.uri = move.away
        yield
        for move in made:
            io_utils.copy_dir(move.away, move.home)
    finally:
        for move in (*fetched, *made):
            move.artifact.uri = move.home
        _remove(folder)


def _moves(artifacts: Mapping[str, Sequence[Artifact]], folder: str) -> list[_Move]:
    return [
        _Move(artifact, artifact.uri, f"{folder}/{key}/{index}")
        for key, members in artifacts.items()
        for index, artifact in enumerate(members)
        if not isinstance(artifact, ValueArtifact)
    ]


def _make(folder: str, scratch: str) -> None:
    try:
        fileio.makedirs(folder)
    except (OSError, tf.errors.OpError) as error:
        raise EvergreenError(
            f"the scratch folder {scratch!r} cannot be written: {error}. Correct kubeflow.beam_scratch: a path on a "
            "volume that kubeflow.volumes mounts and the Beam workers mount too, or gs://…"
        ) from error


def _remove(folder: str) -> None:
    """A folder that stays is no reason to fail, and must not hide one."""
    try:
        if fileio.exists(folder):
            fileio.rmtree(folder)
    except (OSError, tf.errors.OpError) as error:
        log.warning("%s stays behind and may be removed: %s", folder, error)
