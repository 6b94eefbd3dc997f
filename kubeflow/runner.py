"""Compiles the graph of pipeline/build.py into a package for open-source Kubeflow Pipelines v2.

    evergreen kubeflow compile --config examples/movielens/config.yaml --output package.yaml

It is also a `--pipeline-path` for `tfx pipeline compile --engine=vertex`, the only engine of TFX 1.16 that still knows
this compiler: it leaves `package.yaml` in the working folder. `--engine=kubeflow` imports a runner that TFX removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as trainer/__init__.py says; TFX touches tf.keras before it

import yaml
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.pipeline import Pipeline
from tfx.types.artifact import Artifact
from tfx.types.component_spec import ExecutionParameter
from tfx.types.system_artifacts import Dataset, Model
from tfx.utils.name_utils import get_full_name

from components.errors import EvergreenError
from evergreen_kubeflow.entrypoint import SHIPPED
from evergreen_kubeflow.executor_input import Node
from evergreen_kubeflow.mend import NodeFacts, mend
from evergreen_kubeflow.package import check_name
from evergreen_kubeflow.platform import platform_document
from evergreen_kubeflow.report_node import RunReport
from evergreen_kubeflow.snapshot_node import Snapshot as SnapshotNode
from evergreen_kubeflow.ui_artifacts import UiArtifact
from pipeline.build import create_nodes
from pipeline.cluster_config import EVERY_COMPONENT, ClusterConfig
from pipeline.code_version import code_version
from pipeline.config import ConfigError, PipelineConfig, read_config, to_json
from pipeline.places import Destination, project_root
from pipeline.snapshot import NEWEST_SPAN, Snapshot


def compile_package(config: PipelineConfig, output: Path) -> Path:
    """Writes the package: the pipeline's spec, and what Kubernetes must give its steps.

    Raises:
      ConfigError: `kubeflow` names a component that is not in the graph.
      ClusterError: Kubeflow Pipelines would not take the pipeline's name.
    """
    check_name(config.name)
    pipeline = cluster_pipeline(config)
    cluster = config.kubeflow
    known = [node.id for node in pipeline.components]
    for key, names in (("resources", cluster.resources), ("beam_pipeline_args", cluster.beam_pipeline_args)):
        if unknown := sorted(set(names) - {*known, EVERY_COMPONENT}):
            raise ConfigError(f"kubeflow.{key} names {unknown}; known: {', '.join((EVERY_COMPONENT, *known))}")
    compiler = KubeflowV2DagRunner(KubeflowV2DagRunnerConfig(default_image=cluster.image, use_pipeline_spec_2_1=True))
    spec = compiler.run(pipeline, write_out=False)["pipelineSpec"]
    shipped = code_version(SHIPPED)
    mended = mend(spec, {node.id: facts_of(node, cluster, shipped) for node in pipeline.components}, defaults(cluster))
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8") as stream:
        yaml.safe_dump_all([mended, platform_document(cluster, known)], stream, sort_keys=False, width=120)
    return output


def defaults(cluster: ClusterConfig) -> dict[str, Any]:
    """The parameters of a run, and what they are when they are not given."""
    return {
        "span": NEWEST_SPAN,
        "window_spans": 0,  # the configuration's
        "cause": "by hand",
        "data_root": cluster.data_root,
        "serving_path": cluster.serving_path,
        "releases_path": cluster.releases_path,
    }


def cluster_pipeline(config: PipelineConfig) -> Pipeline:
    """The graph of pipeline/build.py, with the snapshot before it and the report after it."""
    cluster = config.kubeflow
    given = {name: RuntimeParameter(name, type(value), value) for name, value in defaults(cluster).items()}
    registry_url = f"${{{cluster.registry.variable}}}"
    snapshot = SnapshotNode(
        data_root=given["data_root"],
        asked_span=given["span"],
        asked_window_spans=given["window_spans"],
        cause=given["cause"],
        registry_url=registry_url,
        contract=to_json(config.contract),
        examples=to_json(config.examples),
        gate=to_json(config.gate),
    )
    seen = {name: channel.future()[0].value for name, channel in snapshot.outputs.items()}
    nodes = create_nodes(
        config,
        Destination(registry_url, given["serving_path"], given["releases_path"]),
        Snapshot(data_root=given["data_root"], **seen),
        code_version=code_version(),
    )
    by_id = {node.id: node for node in nodes}
    report = RunReport(
        examples=by_id["InteractionExampleGen"].outputs["examples"],
        gate_verdict=by_id["DataGate"].outputs["verdict"],
        model_run=by_id["Trainer"].outputs["model_run"],
        servable=by_id["IndexBuilder"].outputs["servable"],
        evaluation=by_id["Evaluator"].outputs["evaluation"],
        blessing=by_id["Evaluator"].outputs["blessing"],
        infra_blessing=by_id["ServableValidator"].outputs["blessing"],
        pushed_model=by_id["Pusher"].outputs["pushed_model"],
        pipeline=config.name,
        run_id="{{$.pipeline_job_uuid}}",
        config=to_json(as_compiled(config)),
    )
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=cluster.pipeline_root,
        components=[snapshot, *nodes, report],
        enable_cache=True,
    )


def as_compiled(config: PipelineConfig) -> PipelineConfig:
    """What of the configuration a cluster sees: without the paths of the machine that compiles."""
    return replace(config, data_root=config.kubeflow.data_root, schema_dir=None)


def facts_of(node: BaseNode, cluster: ClusterConfig, shipped: str) -> NodeFacts:
    """What the compiler does not know of a node; `shipped` is the version of the code that its image must hold."""
    channels, resources = {**node.inputs, **node.outputs}, cluster.resources_of(node.id)
    told = Node(
        id=node.id,
        executor=get_full_name(node.executor_spec.executor_class),
        inputs={key: get_full_name(channel.type) for key, channel in node.inputs.items()},
        outputs={key: get_full_name(channel.type) for key, channel in node.outputs.items()},
        parameters={name: _parameter_type(spec) for name, spec in node.spec.PARAMETERS.items()},
    )
    args = ["--node", told.to_json(), "--code-version", shipped, "--executor-input", "{{$}}"]
    if issubclass(node.executor_spec.executor_class, BaseBeamExecutor):
        beam_args = beam_args_of(node.id, cluster)
        if is_remote(beam_args):
            args += ["--beam-scratch", cluster.beam_scratch]
        args += ["--", *beam_args]
    return NodeFacts(
        image=cluster.training_image if node.id == "Trainer" else cluster.image,
        command=("python", "-m", "evergreen_kubeflow.entrypoint"),
        args=tuple(args),
        system_types={key: _system_type(channel.type) for key, channel in channels.items()},
        resources=replace(resources, retries=0) if node.id == "Admission" else resources,  # a stop is no accident
        is_cached=node.id != "Snapshot",
    )


def beam_args_of(node_id: str, cluster: ClusterConfig) -> tuple[str, ...]:
    """The node's own, or those of every component.

    Raises ConfigError for workers outside of the pod without a place that both see, or one that the node cannot use.
    """
    args = cluster.beam_pipeline_args.get(node_id, cluster.beam_pipeline_args.get(EVERY_COMPONENT, ()))
    if is_remote(args) and not cluster.beam_scratch:
        raise ConfigError(
            f"kubeflow.beam_pipeline_args gives {node_id} workers outside of its pod, {' '.join(args)!r}, and they "
            "do not see its files: name a folder that both see in kubeflow.beam_scratch"
        )
    if is_remote(args) and node_id == "Evaluator" and "://" in str(cluster.beam_scratch):
        raise ConfigError(
            f"the Evaluator cannot work in {cluster.beam_scratch}; its table is small: give it "
            "kubeflow.beam_pipeline_args of its own, such as --direct_running_mode=in_memory"
        )
    return args


def is_remote(beam_args: Sequence[str]) -> bool:
    """Whether the work is done outside of the pod: by a runner other than Beam's own, which is the default."""
    runners = [arg.partition("=")[2] for arg in beam_args if arg.startswith("--runner=")]
    return bool(runners) and runners[-1] not in ("DirectRunner", "FnApiRunner")


def _system_type(artifact_type: type[Artifact]) -> str:
    if issubclass(artifact_type, UiArtifact):
        return artifact_type.SYSTEM_TYPE
    annotation = getattr(artifact_type.TYPE_ANNOTATION, "MLMD_SYSTEM_BASE_TYPE", None)
    return {Dataset.MLMD_SYSTEM_BASE_TYPE: "system.Dataset", Model.MLMD_SYSTEM_BASE_TYPE: "system.Model"}.get(
        annotation, "system.Artifact"
    )


def _parameter_type(spec: ExecutionParameter) -> str:
    if spec.use_proto:
        return get_full_name(spec.type)
    return spec.type.__name__ if spec.type in (int, float, str) else "str"


def main() -> None:
    """Compiles the pipeline that EVERGREEN_CONFIG names, for `tfx … --pipeline-path`."""
    named = os.environ.get("EVERGREEN_CONFIG") or str(project_root() / "examples" / "movielens" / "config.yaml")
    try:
        config = read_config(Path(named))
        compile_package(config, Path("package.yaml"))
    except EvergreenError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
