"""What TFX 1.16's compiler gets wrong for open-source Kubeflow, put right: a spec in, a spec out.

    names            comp-*, exec-* and kebab-case tasks: kfp's tools cut five characters off blindly
    artifact types   system.*, because the backend loses all others; a step is told its TFX types by `--node`
    parameters       a value that one node computes for another: the producer's true name, the consumer's true type, and
                     no artifact of the same name beside it; defaults for the root's parameters
    containers       our entry point and images, what each may use, how often it is tried again
    caching          off for a node that looks at the outside world

Sources: kubeflow/pipelines backend/src/v2 (driver, launcher), releases 2.5 to 2.17; TFX 1.16 orchestration/kubeflow/v2.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cluster_config import Resources

Spec = dict[str, Any]

TYPE_VERSION = "0.0.1"  # of every system.* artifact type
BACKOFF = {"backoffDuration": "60s", "backoffFactor": 2.0, "backoffMaxDuration": "900s"}


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What the compiler does not know of a node.

    system_types: `system.*` title by the key of each input and output; none for a value that is handed on.
    """

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    system_types: Mapping[str, str]
    resources: Resources
    is_cached: bool


def kebab(name: str) -> str:
    """`InteractionExampleGen` → `interaction-example-gen`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).replace("_", "-").lower()


def mend(spec: Spec, nodes: Mapping[str, NodeFacts], defaults: Mapping[str, Any]) -> Spec:
    """Returns a mended copy of the `pipelineSpec` that KubeflowV2DagRunner makes.

    Args:
      nodes: by node id, in the order of the graph.
      defaults: of the root's parameters, by name.
    """
    tasks, components = spec["root"]["dag"]["tasks"], spec["components"]
    mended = copy.deepcopy({key: spec[key] for key in ("pipelineInfo", "schemaVersion", "sdkVersion", "root")})
    for name, parameter in mended["root"]["inputDefinitions"]["parameters"].items():
        parameter["defaultValue"] = defaults[name]
    mended["root"]["dag"]["tasks"] = {kebab(node): _task(tasks[node], node, facts) for node, facts in nodes.items()}
    mended["components"] = {
        f"comp-{kebab(node)}": _component(components, tasks[node], node, facts) for node, facts in nodes.items()
    }
    mended["deploymentSpec"] = {
        "executors": {f"exec-{kebab(node)}": {"container": _container(facts)} for node, facts in nodes.items()}
    }
    return mended


def _task(task: Spec, node: str, facts: NodeFacts) -> Spec:
    task = copy.deepcopy(task)
    task["componentRef"]["name"] = f"comp-{kebab(node)}"
    task["cachingOptions"] = {"enableCache": facts.is_cached}
    if "dependentTasks" in task:
        task["dependentTasks"] = [kebab(producer) for producer in task["dependentTasks"]]
    if facts.resources.retries:
        task["retryPolicy"] = {"maxRetryCount": facts.resources.retries, **BACKOFF}
    inputs = task.get("inputs", {})
    for artifact in inputs.get("artifacts", {}).values():
        artifact["taskOutputArtifact"]["producerTask"] = kebab(artifact["taskOutputArtifact"]["producerTask"])
    for parameter in inputs.get("parameters", {}).values():
        if source := parameter.get("taskOutputParameter"):
            source["producerTask"] = kebab(_producer(source))
    return task


def _component(components: Spec, task: Spec, node: str, facts: NodeFacts) -> Spec:
    component = copy.deepcopy(components[node])
    component["executorLabel"] = f"exec-{kebab(node)}"
    for side in ("inputDefinitions", "outputDefinitions"):
        definitions = component.get(side, {})
        values = definitions.get("parameters", {}) if side == "outputDefinitions" else {}
        artifacts = {key: spec for key, spec in definitions.get("artifacts", {}).items() if key not in values}
        for key, spec in artifacts.items():
            spec["artifactType"] = {"schemaTitle": facts.system_types[key], "schemaVersion": TYPE_VERSION}
        definitions.pop("artifacts", None)
        if artifacts:
            definitions["artifacts"] = artifacts
    for key, parameter in task.get("inputs", {}).get("parameters", {}).items():
        if source := parameter.get("taskOutputParameter"):
            made = components[_producer(source)]["outputDefinitions"]["parameters"][source["outputParameterKey"]]
            component["inputDefinitions"]["parameters"][key]["parameterType"] = made["parameterType"]
    return component


def _container(facts: NodeFacts) -> Spec:
    container: Spec = {"image": facts.image, "command": list(facts.command), "args": list(facts.args)}
    given = facts.resources
    resources: Spec = {}
    if given.cpu:
        resources |= {"cpuRequest": given.cpu, "cpuLimit": given.cpu}
    if given.memory_gib:
        gigabytes = given.memory_gib * 2**30 / 1e9  # the backend's unit is 10⁹ bytes
        resources |= {"memoryRequest": gigabytes, "memoryLimit": gigabytes}
    if given.gpus:
        resources["accelerator"] = {"type": given.gpu_type, "count": str(given.gpus)}
    return container | ({"resources": resources} if resources else {})


def _producer(source: Spec) -> str:
    """The node's id: the compiler names a task `<id>_task` here that it names `<id>` everywhere else."""
    return source["producerTask"].removesuffix("_task")
