"""What a container of a step runs: one node, from the backend's executor input to its executor output.

    python -m evergreen_kubeflow.entrypoint --node '{…}' --code-version … --executor-input '{{$}}' [Beam's arguments]

The launcher has put the inputs below /minio, /s3 or /gcs before this begins, and takes the outputs from there after.
An error that is meant for a person is the last line of the pod's log, without a traceback.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as trainer/__init__.py says; TFX touches tf.keras before it

from components.errors import EvergreenError
from pipeline.code_version import PACKAGES, code_version
from serving.errors import ServingError

SHIPPED = (*PACKAGES, "evergreen_kubeflow")  # what an image and a package must have in common


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.option("--node", required=True, help="executor_input.Node as JSON.")
@click.option("--code-version", "compiled_from", required=True, help="Of the code that compiled the package.")
@click.option("--executor-input", required=True, help="What the backend puts in the place of {{$}}.")
@click.option("--beam-scratch", help="A folder that this pod and the Beam workers both see.")
@click.argument("beam_args", nargs=-1, type=click.UNPROCESSED)
def main(
    node: str, compiled_from: str, executor_input: str, beam_scratch: str | None, beam_args: Sequence[str]
) -> None:
    """Runs one node of the pipeline in a pod of Kubeflow Pipelines."""
    start(node, compiled_from, executor_input, beam_scratch, beam_args, root=Path("/"))


def start(
    node: str, compiled_from: str, executor_input: str, beam_scratch: str | None, beam_args: Sequence[str], root: Path
) -> None:
    """Sets up the log, runs the node, and exits with 1 and one line for an error that is meant for a person."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stdout)
    logging.getLogger("evergreen").setLevel(logging.INFO)
    warnings.simplefilter("ignore", FutureWarning)
    try:
        check_code_version(compiled_from)
        run_node(node, json.loads(executor_input), beam_args, beam_scratch, root)
    except (EvergreenError, ServingError) as error:
        sys.exit(f"error: {error}")


def check_code_version(compiled_from: str) -> None:
    """Raises EvergreenError when the image holds other code than the package was compiled from."""
    shipped = code_version(SHIPPED)
    if shipped != compiled_from:
        raise EvergreenError(
            f"the image does not match the package: the image holds code version {shipped}, the package was compiled "
            f"from {compiled_from}. Build and push the image from that code, or compile and submit the package again"
        )


def run_node(
    node_json: str,
    executor_input: Mapping[str, Any],
    beam_args: Sequence[str] = (),
    beam_scratch: str | None = None,
    root: Path = Path("/"),
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Runs one node and writes its output file.

    Args:
      executor_input: `inputs` (`artifacts`, `parameterValues`) and `outputs` (`artifacts`, `parameters`, `outputFile`).
      beam_args: for an executor that uses Beam.
      beam_scratch: where Beam workers read and write instead of this pod's own folders; its content is removed after.
      root: below which the launcher's folders are.
      environment: where `${NAME}` parameters are looked up.
    """
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.dsl.components.base.base_executor import BaseExecutor
    from tfx.utils.import_utils import import_class_by_path

    from evergreen_kubeflow.beam_scratch import by_way_of
    from evergreen_kubeflow.executor_input import Node, executor_output, read_artifacts, read_parameters, read_values

    node = Node.from_json(node_json)
    given, wanted = executor_input.get("inputs", {}), executor_input["outputs"]
    executor_class = import_class_by_path(node.executor)
    with tempfile.TemporaryDirectory() as temporary:
        inputs = read_artifacts(given.get("artifacts", {}), node.inputs, root)
        outputs = read_artifacts(wanted.get("artifacts", {}), node.outputs, root)
        make_folders(outputs)
        outputs |= (values := read_values(wanted.get("parameters", {}), node.outputs, Path(temporary)))
        parameters = read_parameters(given.get("parameterValues", {}), node.parameters, environment)
        kind = BaseBeamExecutor if issubclass(executor_class, BaseBeamExecutor) else BaseExecutor
        beam = {"beam_pipeline_args": list(beam_args)} if kind is BaseBeamExecutor else {}
        executor = executor_class(kind.Context(tmp_dir=temporary, unique_id=node.id, **beam))
        with by_way_of(beam_scratch, inputs, outputs):
            executor.Do(inputs, outputs, parameters)
        written = executor_output(wanted.get("artifacts", {}), outputs, values)
    target = root / wanted["outputFile"].lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(written, allow_nan=False))  # the backend refuses NaN


def make_folders(outputs: Mapping[str, Sequence[Any]]) -> None:
    """An empty folder for each output, as TFX's own launcher makes it; what the UI draws is a file."""
    from evergreen_kubeflow.ui_artifacts import UiArtifact

    for artifact in (artifact for produced in outputs.values() for artifact in produced):
        path = Path(artifact.uri)
        (path.parent if isinstance(artifact, UiArtifact) else path).mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main()
