"""kubeflow/beam: fragments that the configuration takes, arguments that Beam knows, manifests that meet them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam
import kubernetes_validate
import pytest
import yaml
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from tfx.utils.dependency_utils import make_beam_dependency_flags

from pipeline.cluster_config import EVERY_COMPONENT, IN_ONE_PROCESS, ClusterConfig
from pipeline.config import PipelineConfig, read_config

ROOT = Path(__file__).resolve().parents[2]
BEAM = ROOT / "kubeflow" / "beam"
ON_CLUSTER = ("flink", "spark")
FRAGMENTS = (*ON_CLUSTER, "dataflow")
REMOTE = ("InteractionExampleGen", "StatisticsGen", "Transform")


@pytest.fixture(params=FRAGMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(name: str, tmp_path: Path) -> PipelineConfig:
    """The fragment in the example's configuration, read as any configuration is."""
    tree = yaml.safe_load((ROOT / "examples" / "movielens" / "config.yaml").read_text())
    fragment = yaml.safe_load((BEAM / f"{name}.yaml").read_text())
    assert set(fragment) == {"kubeflow"}
    tree.pop("schema_dir", None)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree | fragment))
    return read_config(path)


def known_to_beam() -> argparse.ArgumentParser:
    """Every option that Beam declares, and no abbreviations."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_value_provider_argument = parser.add_argument  # type: ignore[attr-defined]
    for options in {str(cls): cls for cls in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    return parser


def resources(name: str) -> list[dict[str, Any]]:
    files = [BEAM / "volume.yaml", BEAM / f"{name}-cluster.yaml"]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def templates(name: str) -> Iterator[dict[str, Any]]:
    """The pod templates of a cluster; Flink's own container has the image that the operator gives it."""
    for resource in resources(name):
        if resource["kind"] == "FlinkDeployment":
            template = resource["spec"]["taskManager"]["podTemplate"]
            for container in template["spec"]["containers"]:
                container.setdefault("image", resource["spec"]["image"])
            yield template
        elif "template" in resource["spec"]:
            yield resource["spec"]["template"]


def worker_pool(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The container of Python workers, and what it mounts where: claim → path."""
    for template in templates(name):
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in template["spec"].get("volumes", ())
        }
        for container in template["spec"]["containers"]:
            if "apache_beam.runners.worker.worker_pool_main" in container.get("command", ()):
                return container, {claims[mount["name"]]: mount["mountPath"] for mount in container["volumeMounts"]}
    raise AssertionError(f"{name}: no worker pool")


def options_of(config: PipelineConfig) -> PipelineOptions:
    return PipelineOptions(list(config.kubeflow.beam_pipeline_args["InteractionExampleGen"]))


def test_beam_knows_every_argument(config: PipelineConfig) -> None:
    for args in config.kubeflow.beam_pipeline_args.values():
        _, unknown = known_to_beam().parse_known_args(list(args))
        assert unknown == []
        PipelineOptions(list(args)).get_all_options()  # raises for a value of another type


@pytest.mark.parametrize("slip", ["--environment_typ=EXTERNAL", "--job-endpoint=x", "--sdk_container=x"])
def test_a_slip_in_an_argument_is_found(slip: str) -> None:
    """What the law above rests on: Beam itself drops what it does not know."""
    assert known_to_beam().parse_known_args([slip])[1] == [slip]


def test_the_package_gives_each_component_its_own(config: PipelineConfig, tmp_path: Path) -> None:
    from evergreen_kubeflow.runner import compile_package

    spec, _ = yaml.safe_load_all(compile_package(config, tmp_path / "package.yaml").read_text())
    args = {name: e["container"]["args"] for name, e in spec["deploymentSpec"]["executors"].items()}
    cluster = config.kubeflow
    assert set(cluster.beam_pipeline_args) == {*REMOTE, EVERY_COMPONENT}
    for executor in ("exec-interaction-example-gen", "exec-statistics-gen", "exec-transform"):
        assert args[executor][args[executor].index("--") + 1 :] == list(cluster.beam_pipeline_args["Transform"])
        assert args[executor][args[executor].index("--beam-scratch") + 1] == cluster.beam_scratch
    for executor in ("exec-evaluator", "exec-catalog-statistics-gen"):
        assert "--beam-scratch" not in args[executor]
        assert args[executor][args[executor].index("--") + 1 :] == list(cluster.beam_pipeline_args[EVERY_COMPONENT])
        assert cluster.beam_pipeline_args[EVERY_COMPONENT] == IN_ONE_PROCESS


def test_tfx_packs_nothing_that_the_workers_have_already(config: PipelineConfig) -> None:
    args = list(config.kubeflow.beam_pipeline_args["Transform"])
    assert make_beam_dependency_flags(args) == args
    assert "disable_logging_submission_environment" in options_of(config).get_all_options()["experiments"]


@pytest.mark.parametrize("name", ON_CLUSTER, indirect=True)
def test_pods_and_workers_see_the_same_folders_and_run_the_same_code(name: str, config: PipelineConfig) -> None:
    pool, mounts = worker_pool(name)
    cluster = config.kubeflow
    assert pool["image"] == cluster.image
    volumes = {volume.claim: volume.mount_path for volume in cluster.volumes}
    assert {volume.claim for volume in ClusterConfig().volumes} < set(volumes)
    assert mounts.items() <= volumes.items()
    assert str(cluster.beam_scratch).startswith(mounts["evergreen-beam"])
    assert cluster.data_root == mounts["evergreen-data"]


@pytest.mark.parametrize("name", ON_CLUSTER, indirect=True)
def test_the_arguments_lead_to_the_job_server_and_to_the_workers(name: str, config: PipelineConfig) -> None:
    options = options_of(config).view_as(PortableOptions)
    assert (options.view_as(StandardOptions).runner, options.environment_type) == ("PortableRunner", "EXTERNAL")
    pool, _ = worker_pool(name)
    assert f"--service_port={options.environment_config.removeprefix('localhost:')}" in pool["command"]
    services = {r["metadata"]["name"]: r["spec"] for r in resources(name) if r["kind"] == "Service"}
    ports = {port["name"]: port["port"] for port in services["evergreen-beam-jobs"]["ports"]}
    assert options.job_endpoint == f"evergreen-beam-jobs:{ports['jobs']}"
    assert options.artifact_endpoint == f"evergreen-beam-jobs:{ports['artifacts']}"
    (server,) = (c for t in templates(name) for c in t["spec"]["containers"] if c["name"] == "job-server")
    assert {f"--job-port={ports['jobs']}", f"--artifact-port={ports['artifacts']}"} <= set(server["args"])
    assert server["image"].endswith(f":{apache_beam.__version__}")


def test_flink_is_one_that_beam_has_a_job_server_for() -> None:
    (cluster,) = (r for r in resources("flink") if r["kind"] == "FlinkDeployment")
    version = cluster["spec"]["flinkVersion"].removeprefix("v").replace("_", ".")
    assert version in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert cluster["spec"]["image"] == f"flink:{version}"
    (server,) = (c for t in templates("flink") for c in t["spec"]["containers"] if c["name"] == "job-server")
    assert server["image"].startswith(f"apache/beam_flink{version}_job_server:")
    assert f"--flink-master={cluster['metadata']['name']}-rest:8081" in server["args"]  # the operator's service


@pytest.mark.parametrize("name", ON_CLUSTER)
@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    for resource in resources(name):
        if resource["kind"] != "FlinkDeployment":
            kubernetes_validate.validate(resource, version, strict=True)
    for template in templates(name):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("name", ON_CLUSTER)
def test_no_policy_of_the_base_cuts_the_workers_off(name: str) -> None:
    policies = yaml.safe_load_all((ROOT / "kubeflow" / "manifests" / "base" / "network.yaml").read_text())
    selectors = [policy["spec"]["podSelector"]["matchLabels"] for policy in policies]
    for template in templates(name):
        if template["spec"]["containers"][0]["name"] != "mkdir":  # it needs no network
            labels = template["metadata"].get("labels", {})
            assert not [selector for selector in selectors if selector.items() <= labels.items()]


@pytest.mark.parametrize("name", ["dataflow"], indirect=True)
def test_dataflow_takes_the_options_and_nothing_there_is_a_path(config: PipelineConfig) -> None:
    options = options_of(config)
    cloud = options.view_as(GoogleCloudOptions)
    validator = PipelineOptionsValidator(options, None)  # its `validate` would ask Google for the bucket
    assert validator.validate_cloud_options(cloud) == []
    assert validator.validate_gcs_path(cloud, "temp_location") == []
    assert (options.view_as(StandardOptions).runner, bool(cloud.region)) == ("DataflowRunner", True)
    cluster = config.kubeflow
    places = (cluster.data_root, cluster.beam_scratch, cloud.temp_location)
    assert all(str(place).startswith("gs://") for place in places)
    assert "Evaluator" not in cluster.beam_pipeline_args


def test_the_image_of_dataflows_workers() -> None:
    path = BEAM / "dataflow.Dockerfile"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apache/beam_python{python}_sdk:{apache_beam.__version__}" in path.read_text()
    command: Sequence[str | Path] = [Path(sys.executable).parent / "hadolint", path]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
