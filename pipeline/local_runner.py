"""Runs the pipeline on this machine, in one process. Also the `--pipeline-path` for `tfx … --engine=local`:

    export EVERGREEN_CONFIG=examples/movielens/config.yaml EVERGREEN_SPAN=1
    tfx run create --engine=local --pipeline-name=movielens

LocalDagRunner goes on, and ends well, when a node's inputs cannot be found (TFX 1.16). This runner does not: it runs
the same launcher node by node, prints a line for each, and ends at the first that does not complete.
"""

import datetime
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as trainer/__init__.py says; TFX touches tf.keras before it
warnings.filterwarnings("ignore", category=FutureWarning)

from tfx.orchestration import metadata  # noqa: E402  (after the variables that TensorFlow reads once)
from tfx.orchestration.local import runner_utils  # noqa: E402
from tfx.orchestration.local.local_dag_runner import LocalDagRunner  # noqa: E402
from tfx.orchestration.pipeline import Pipeline  # noqa: E402
from tfx.orchestration.portable import launcher, runtime_parameter_utils  # noqa: E402
from tfx.proto.orchestration import pipeline_pb2  # noqa: E402

from components.errors import EvergreenError, NothingNew  # noqa: E402
from pipeline import report, runs  # noqa: E402
from pipeline.build import create_nodes  # noqa: E402
from pipeline.code_version import code_version  # noqa: E402
from pipeline.config import PipelineConfig, read_config, to_json  # noqa: E402
from pipeline.console import Console, quiet  # noqa: E402
from pipeline.places import Places, project_root  # noqa: E402
from pipeline.snapshot import NEWEST_SPAN, take_snapshot  # noqa: E402

CONFIG_VARIABLE, SPAN_VARIABLE = "EVERGREEN_CONFIG", "EVERGREEN_SPAN"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `title` and `reasons` in words, and its report."""

    run_id: str
    kind: str  # pushed, unchanged, rejected, stopped, failed
    title: str
    reasons: tuple[str, ...]
    report: Path

    @property
    def is_failure(self) -> bool:
        """True where a node stopped the run; a rejected model is a verdict, not a failure."""
        return self.kind in ("stopped", "failed")


class LocalRunner(LocalDagRunner):
    """LocalDagRunner that shows progress and stops at the first node that does not complete."""

    def __init__(self, places: Places, config: PipelineConfig) -> None:
        super().__init__()
        self._places, self._config = places, config
        self.outcome: Outcome | None = None  # stays None where `tfx pipeline create` only wants the graph

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Runs every node; `outcome` says how it ended. Never raises for what a node did."""
        run_id = datetime.datetime.now().isoformat(timespec="seconds")
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, {"pipeline-run-id": run_id})
        log_path = self._places.logs / f"{run_id.replace(':', '-')}.log"
        expected = [node.pipeline_node.node_info.id for node in pipeline.nodes]
        with quiet(log_path) as console:
            try:
                self._launch_all(pipeline, run_id, expected, console)
            except Exception as error:
                logging.exception("run %s ended early", run_id)
                runs.record_error(self._places, error)
        run = runs.run(self._places, run_id)
        page = report.write_report(self._places, run, expected, to_json(self._config))
        verdict = report.judge(report.Facts(run, tuple(expected), None))
        self.outcome = Outcome(run_id, verdict.kind, verdict.title, tuple(verdict.reasons), page)
        sys.stdout.write(f"  log: {log_path}\n")

    def _launch_all(self, pipeline: pipeline_pb2.Pipeline, run_id: str, expected: list[str], console: Console) -> None:
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        metadata_config = deployment.metadata_connection_config
        connection = getattr(metadata_config, metadata_config.WhichOneof("connection_config"))
        for index, node in enumerate(pipeline.nodes):
            node_id = expected[index]
            with console.step(node_id):
                launcher.Launcher(
                    pipeline_node=node.pipeline_node,
                    mlmd_connection=metadata.Metadata(connection),
                    pipeline_info=pipeline.pipeline_info,
                    pipeline_runtime_spec=pipeline.runtime_spec,
                    executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
                    custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
                ).launch()
                runs.check_complete(runs.run(self._places, run_id), expected[: index + 1])


def run(config: PipelineConfig, places: Places, span: int = NEWEST_SPAN) -> Outcome | None:
    """Compiles and runs the pipeline for `span` (NEWEST_SPAN: the newest that has files).

    Returns None where the `tfx` command line compiles the pipeline and does not run it.

    Raises:
      EvergreenError: before anything ran: no data for the span, a file that cannot be read.
      NothingNew: production has learned what there is.
    """
    places.root.mkdir(parents=True, exist_ok=True)
    destination = places.destination
    snapshot = take_snapshot(
        config.contract, config.examples, config.gate, config.data_root, destination.registry_url, span
    )
    pipeline = Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(places.artifacts),
        components=create_nodes(config, destination, snapshot, code_version=code_version()),
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(places.metadata)),
        beam_pipeline_args=list(config.beam_pipeline_args),
    )
    runner = LocalRunner(places, config)
    runner.run(pipeline)
    return runner.outcome


def tell(outcome: Outcome) -> str:
    """The end of a run in a few lines."""
    lines = [f"  {outcome.title}", *(f"    · {reason}" for reason in outcome.reasons[:4])]
    return "\n".join([*lines, f"  report: {outcome.report}"])


def main() -> None:
    """Entry for `tfx … --engine=local`: the configuration and the span come from the environment."""
    named = os.environ.get(CONFIG_VARIABLE) or str(project_root() / "examples" / "movielens" / "config.yaml")
    span = os.environ.get(SPAN_VARIABLE)
    try:
        config = read_config(Path(named))
        places = Places.from_environment(config.name)
        outcome = run(config, places, int(span) if span else NEWEST_SPAN)
    except NothingNew as nothing:
        sys.stdout.write(f"{nothing}\n")
        return
    except EvergreenError as error:
        sys.exit(f"error: {error}")
    if outcome:
        sys.stdout.write(tell(outcome) + "\n")
        if outcome.is_failure:
            sys.exit(1)


if __name__ == "__main__":
    main()
