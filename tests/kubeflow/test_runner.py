"""The package: one graph on both engines, and what open-source Kubeflow asks of it."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from evergreen_kubeflow.entrypoint import SHIPPED
from evergreen_kubeflow.executor_input import Node
from evergreen_kubeflow.mend import kebab
from evergreen_kubeflow.runner import cluster_pipeline, compile_package
from pipeline.build import create_nodes
from pipeline.cluster_config import ClusterConfig, Resources
from pipeline.code_version import code_version
from pipeline.config import ConfigError, PipelineConfig
from pipeline.places import Destination
from pipeline.snapshot import Snapshot

CLUSTER = {
    "resources": {
        "default": {"cpu": 1, "memory_gib": 2, "retries": 1},
        "Trainer": {"cpu": 4, "memory_gib": 8, "gpus": 1, "retries": 2, "node_selector": {"pool": "gpu"}},
    },
    "beam_pipeline_args": {
        "default": ["--runner=DirectRunner"],
        "Transform": ["--runner=FlinkRunner", "--parallelism=4"],
    },
    "beam_scratch": "/scratch",
    "secrets": [{"name": "store", "key": "id", "variable": "AWS_ACCESS_KEY_ID"}],
}


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    tree = {
        "name": "shop",
        "data_root": "data",
        "contract": {"interactions": {"types": {"view": 0.1, "buy": 1.0}}},
        "kubeflow": CLUSTER,
    }
    return TypeAdapter(PipelineConfig).validate_python(tree)


@pytest.fixture(scope="module")
def documents(config: PipelineConfig, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    package = compile_package(config, tmp_path_factory.mktemp("package") / "package.yaml")
    return list(yaml.safe_load_all(package.read_text()))


@pytest.fixture(scope="module")
def spec(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[0]


@pytest.fixture(scope="module")
def tasks(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["root"]["dag"]["tasks"]


def container(spec: dict[str, Any], task: str) -> dict[str, Any]:
    return spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]


def node_of(spec: dict[str, Any], task: str) -> Node:
    args = container(spec, task)["args"]
    return Node.from_json(args[args.index("--node") + 1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("InteractionExampleGen", "interaction-example-gen"),
        ("DataGate", "data-gate"),
        ("RunReport", "run-report"),
        ("TFMAEvaluator2", "tfma-evaluator2"),
        ("ann_index", "ann-index"),
    ],
)
def test_names_are_kebab(name: str, expected: str) -> None:
    assert kebab(name) == expected


def test_it_is_the_graph_of_a_local_run_between_a_snapshot_and_a_report(
    config: PipelineConfig, spec: dict[str, Any], tasks: dict[str, Any]
) -> None:
    seen = Snapshot(
        data_root="data",
        span=1,
        plan="{}",
        registry_id="r",
        live_version=0,
        start_version=0,
        overrides="{}",
        asked_at_seconds=0,
    )
    local = create_nodes(config, Destination("sqlite://", "/s", "/r"), seen, code_version="c")
    assert {kebab(node.id) for node in local} == set(tasks) - {"snapshot", "run-report"}
    for node in local:
        task = tasks[kebab(node.id)]
        producers = {key: channel.producer_component_id for key, channel in node.inputs.items()}
        wired = {k: a["taskOutputArtifact"]["producerTask"] for k, a in task["inputs"].get("artifacts", {}).items()}
        assert wired == {key: kebab(producer) for key, producer in producers.items()}
        assert {kebab(upstream.id) for upstream in node.upstream_nodes} <= set(task.get("dependentTasks", ()))
        for key, value in node.exec_properties.items():  # what is no value of the snapshot is the same
            source = task["inputs"]["parameters"].get(key, {})
            if "runtimeValue" in source and not str(source["runtimeValue"]["constant"]).startswith("${"):
                assert source["runtimeValue"]["constant"] == value or key == "code_version" or value is None, key


def test_every_producer_exists_and_is_awaited(tasks: dict[str, Any]) -> None:
    for name, task in tasks.items():
        inputs = task.get("inputs", {})
        sources = [a["taskOutputArtifact"] for a in inputs.get("artifacts", {}).values()]
        sources += [
            p["taskOutputParameter"] for p in inputs.get("parameters", {}).values() if "taskOutputParameter" in p
        ]
        for source in sources:
            assert source["producerTask"] in tasks, name
            assert source["producerTask"] in task["dependentTasks"], name


def test_a_value_that_is_handed_on_has_one_type_and_is_no_artifact(spec: dict[str, Any]) -> None:
    snapshot = spec["components"]["comp-snapshot"]["outputDefinitions"]
    assert "artifacts" not in snapshot
    made = {name: parameter["parameterType"] for name, parameter in snapshot["parameters"].items()}
    assert made == {
        "span": "NUMBER_INTEGER",
        "live_version": "NUMBER_INTEGER",
        "start_version": "NUMBER_INTEGER",
        "asked_at_seconds": "NUMBER_INTEGER",
        "plan": "STRING",
        "registry_id": "STRING",
        "overrides": "STRING",
    }
    taken = spec["components"]["comp-interaction-example-gen"]["inputDefinitions"]["parameters"]
    assert {name: taken[name]["parameterType"] for name in ("span", "plan")} == {
        name: made[name] for name in ("span", "plan")
    }


def test_every_artifact_is_of_a_system_type(spec: dict[str, Any]) -> None:
    titles = {}
    for name, component in spec["components"].items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for key, artifact in component.get(side, {}).get("artifacts", {}).items():
                assert set(artifact["artifactType"]) == {"schemaTitle", "schemaVersion"}
                titles[name, key] = artifact["artifactType"]["schemaTitle"]
    assert titles["comp-interaction-example-gen", "examples"] == "system.Dataset"
    assert titles["comp-trainer", "model"] == "system.Model"
    report = {key: title for (name, key), title in titles.items() if name == "comp-run-report"}
    assert report["report"] == "system.HTML"
    assert report["verdict"] == "system.Markdown"
    assert report["metrics"] == "system.Metrics"
    assert report["roc"] == "system.ClassificationMetrics"


def test_every_parameter_of_the_root_has_a_default(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: parameter["defaultValue"] for name, parameter in parameters.items()} == {
        "span": -1,
        "window_spans": 0,
        "cause": "by hand",
        "data_root": "/data",
        "serving_path": "/serving/recommender",
        "releases_path": "/serving/releases",
    }


def test_only_what_looks_outside_is_never_cached(tasks: dict[str, Any]) -> None:
    assert [name for name, task in tasks.items() if not task["cachingOptions"]["enableCache"]] == ["snapshot"]


def test_a_step_is_told_the_types_that_the_backend_loses(spec: dict[str, Any]) -> None:
    node = node_of(spec, "data-gate")
    assert node.executor == "components.data_gate.component.DataGate_Executor"
    assert node.inputs["production"] == "components.artifacts.Production"
    assert node.outputs == {"verdict": "components.artifacts.DataVerdict"}
    assert node.parameters["span"] == "int"


def test_a_container_runs_our_entry_point_from_the_right_image(spec: dict[str, Any]) -> None:
    images = {name: executor["container"]["image"] for name, executor in spec["deploymentSpec"]["executors"].items()}
    assert images.pop("exec-trainer") == ClusterConfig().training_image
    assert set(images.values()) == {ClusterConfig().image}
    transform = container(spec, "transform")
    assert transform["command"] == ["python", "-m", "evergreen_kubeflow.entrypoint"]
    assert transform["args"][transform["args"].index("--code-version") + 1] == code_version(SHIPPED)


def test_beam_arguments_go_to_the_nodes_that_use_beam(spec: dict[str, Any]) -> None:
    assert container(spec, "transform")["args"][-3:] == ["--", "--runner=FlinkRunner", "--parallelism=4"]
    assert "--beam-scratch" in container(spec, "transform")["args"]
    assert container(spec, "statistics-gen")["args"][-2:] == ["--", "--runner=DirectRunner"]
    assert "--beam-scratch" not in container(spec, "statistics-gen")["args"]  # it runs in its own pod
    assert "--" not in container(spec, "trainer")["args"]


@pytest.mark.parametrize(
    ("beam", "scratch", "words"),
    [
        ({"default": ("--runner=FlinkRunner",)}, None, "do not see its files: name a folder .* kubeflow.beam_scratch"),
        ({"Evaluator": ("--runner=FlinkRunner",)}, "gs://b/x", "the Evaluator cannot work in gs://b/x"),
    ],
)
def test_workers_elsewhere_need_a_place_that_both_see(
    config: PipelineConfig, tmp_path: Path, beam: dict[str, tuple[str, ...]], scratch: str | None, words: str
) -> None:
    cluster = ClusterConfig(beam_pipeline_args=beam, beam_scratch=scratch)
    with pytest.raises(ConfigError, match=words):
        compile_package(dataclasses.replace(config, kubeflow=cluster), tmp_path / "package.yaml")


def test_resources_retries_and_nodes_come_from_the_configuration(
    spec: dict[str, Any], tasks: dict[str, Any], documents: list[dict[str, Any]]
) -> None:
    resources = container(spec, "trainer")["resources"]
    assert (resources["cpuLimit"], resources["memoryLimit"]) == (4, pytest.approx(8 * 1.073741824))
    assert resources["accelerator"] == {"type": "nvidia.com/gpu", "count": "1"}
    assert container(spec, "pusher")["resources"]["cpuLimit"] == 1
    assert tasks["trainer"]["retryPolicy"]["maxRetryCount"] == 2
    assert tasks["pusher"]["retryPolicy"]["maxRetryCount"] == 1
    assert "retryPolicy" not in tasks["admission"]  # what it decides once it decides again
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-trainer"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert "nodeSelector" not in executors["exec-pusher"]


def test_secrets_are_names_in_the_package_and_never_values(documents: list[dict[str, Any]]) -> None:
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    secrets = executors["exec-admission"]["secretAsEnv"]
    assert [(s["secretName"], s["keyToEnv"][0]["envVar"]) for s in secrets] == [
        ("evergreen-registry", "EVERGREEN_REGISTRY_URL"),
        ("store", "AWS_ACCESS_KEY_ID"),
    ]
    parameters = documents[0]["root"]["dag"]["tasks"]["admission"]["inputs"]["parameters"]
    assert parameters["registry_url"]["runtimeValue"]["constant"] == "${EVERGREEN_REGISTRY_URL}"
    assert [mount["mountPath"] for mount in executors["exec-admission"]["pvcMount"]] == ["/serving", "/data"]


@pytest.mark.parametrize("key", ["resources", "beam_pipeline_args"])
def test_a_component_that_is_not_there_is_refused_with_the_known_ones(
    config: PipelineConfig, tmp_path: Path, key: str
) -> None:
    value = {"Ranker": Resources()} if key == "resources" else {"Ranker": ("--x",)}
    broken = dataclasses.replace(config, kubeflow=ClusterConfig(**{key: value}))
    with pytest.raises(ConfigError, match=rf"kubeflow\.{key} names \['Ranker'\]; known: default, Snapshot, .*Trainer"):
        compile_package(broken, tmp_path / "package.yaml")


def test_a_package_names_no_path_of_the_machine_that_compiles(
    config: PipelineConfig, documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    moved = dataclasses.replace(config, data_root=str(tmp_path / "elsewhere"))
    again = compile_package(moved, tmp_path / "package.yaml")
    assert list(yaml.safe_load_all(again.read_text())) == documents


def test_it_compiles_the_same_every_time(
    config: PipelineConfig, documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    again = compile_package(config, tmp_path / "package.yaml")
    assert list(yaml.safe_load_all(again.read_text())) == documents


def test_the_sdk_of_this_environment_loads_it(config: PipelineConfig, tmp_path: Path) -> None:
    from kfp import components

    package = compile_package(config, tmp_path / "package.yaml")
    loaded = components.load_component_from_file(str(package))
    assert set(loaded.pipeline_spec.root.dag.tasks) == {kebab(node.id) for node in cluster_pipeline(config).components}


def test_an_image_of_other_code_ends_with_one_line() -> None:
    """As a pod would run it: another process, the command of the package."""
    command = [sys.executable, "-m", "evergreen_kubeflow.entrypoint", "--node", "{}", "--executor-input", "{}"]
    told = subprocess.run([*command, "--code-version", "0ld"], capture_output=True, text=True)
    assert told.returncode == 1
    (line,) = told.stderr.splitlines()[-1:]
    assert line.startswith("error: the image does not match the package")
    assert "compiled from 0ld" in line
    assert "Traceback" not in told.stderr
