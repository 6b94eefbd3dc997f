"""The manifests: only fields that Kubernetes knows, names that meet, and the names that the pipeline asks for.

Every law holds for the files as they are written, always; and, where kubectl is, for what each kustomization builds.
"""

from __future__ import annotations

import copy
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import make_url

from pipeline.cluster_config import ClusterConfig

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "kubeflow" / "manifests"
SECRET_FILE = "registry.env"
KUSTOMIZATIONS = sorted(path.parent for path in MANIFESTS.rglob("kustomization.yaml"))
OVERLAYS = sorted(path for path in KUSTOMIZATIONS if path.parent.name == "overlays")
KUBERNETES = ("1.28", "1.37")  # the oldest and the newest that are answered for
WORKLOADS = {"Deployment", "StatefulSet", "Job", "InferenceService"}
OURS = "evergreen/steps"

Resource = dict[str, Any]


def read(path: Path) -> list[Resource]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomization(folder: Path) -> Resource:
    return read(folder / "kustomization.yaml")[0]


def example_secret() -> dict[str, str]:
    lines = (MANIFESTS / "base" / f"{SECRET_FILE}.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def kubectl_kustomize(
    name: str, with_secret: bool = True, kustomization: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Builds a folder of a copy, or one with that kustomization; the registry's secret there is the example's."""
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary) / "manifests"
        shutil.copytree(MANIFESTS, top, ignore=shutil.ignore_patterns(SECRET_FILE))
        if with_secret:
            shutil.copy(top / "base" / f"{SECRET_FILE}.example", top / "base" / SECRET_FILE)
        if kustomization:
            (top / name).mkdir()
            (top / name / "kustomization.yaml").write_text(kustomization)
        return subprocess.run(["kubectl", "kustomize", top / name], capture_output=True, text=True, timeout=60)


@functools.cache
def world(name: str) -> tuple[Resource, ...]:
    """All resources of a kustomization, built; or of all of them, as written."""
    if name == "as written":
        files = [folder / file for folder in KUSTOMIZATIONS for file in kustomization(folder)["resources"]]
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "evergreen-registry"}}
        found = [document for file in files if file.is_file() for document in read(file)]
        return (*found, {**secret, "stringData": example_secret()})
    built = kubectl_kustomize(name)
    assert built.returncode == 0, built.stderr
    return tuple(yaml.safe_load_all(built.stdout))


NAMES = ["base", *(f"overlays/{overlay.name}" for overlay in OVERLAYS)]
NO_KUBECTL = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl: checked as written only")


@pytest.fixture(params=["as written", *(pytest.param(name, marks=NO_KUBECTL) for name in NAMES)])
def resources(request: pytest.FixtureRequest) -> tuple[Resource, ...]:
    return world(request.param)


def of_kind(resources: tuple[Resource, ...], *kinds: str) -> list[Resource]:
    return [resource for resource in resources if resource["kind"] in kinds]


def name_of(resource: Resource) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


def pods(resources: tuple[Resource, ...]) -> Iterator[tuple[str, dict[str, str], Resource]]:
    """(whose, labels, spec) of every pod that will be."""
    for workload in of_kind(resources, *WORKLOADS):
        if workload["kind"] == "InferenceService":  # KServe hands its labels on to its pods
            yield name_of(workload), workload["metadata"]["labels"], workload["spec"]["predictor"]
        else:
            template = workload["spec"]["template"]
            yield name_of(workload), template["metadata"]["labels"], template["spec"]


def servers(resources: tuple[Resource, ...]) -> list[Resource]:
    """Pod specs that run the model server."""
    found = [spec for _, _, spec in pods(resources) if "serving.server" in spec["containers"][0].get("command", ())]
    assert found
    return found


def selected(resources: tuple[Resource, ...], labels: dict[str, str]) -> list[Resource]:
    return [spec for _, own, spec in pods(resources) if labels.items() <= own.items()]


def port_names(spec: Resource) -> set[Any]:
    ports = [port for container in spec["containers"] for port in container.get("ports", ())]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def as_pod(inference_service: Resource) -> Resource:
    """KServe's predictor is a PodSpec and some fields of its own: what is left, as a Pod."""
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}  # ComponentExtensionSpec, v1beta1
    spec = {key: value for key, value in inference_service["spec"]["predictor"].items() if key not in own}
    assert set(inference_service["spec"]) == {"predictor"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": inference_service["metadata"], "spec": spec}


def validate(resource: Resource, version: str) -> None:
    """Raises for a field that is unknown, missing or of another type."""
    if resource["kind"] == "PodMonitor":
        from cloudcoil.models.prometheus_operator.v1 import PodMonitor

        known = PodMonitor.model_validate(resource).model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert known == resource  # the model drops what it does not know
    else:
        checked = as_pod(resource) if resource["kind"] == "InferenceService" else resource
        kubernetes_validate.validate(checked, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(resources: tuple[Resource, ...], version: str) -> None:
    for resource in resources:
        validate(resource, version)


@pytest.mark.parametrize("kind", sorted({resource["kind"] for resource in world("as written")}))
def test_a_slip_in_any_kind_is_found(kind: str) -> None:
    """What the law above rests on."""
    resource = copy.deepcopy(of_kind(world("as written"), kind)[0])
    validate(resource, KUBERNETES[-1])
    inner = resource["spec"]["predictor"] if kind == "InferenceService" else resource.get("spec", resource)
    inner["slip"] = 1
    with pytest.raises((kubernetes_validate.ValidationError, AssertionError)):
        validate(resource, KUBERNETES[-1])


def test_every_file_has_its_place_in_a_kustomization() -> None:
    listed = {(folder / name).resolve() for folder in KUSTOMIZATIONS for name in kustomization(folder)["resources"]}
    assert all(path.exists() for path in listed)
    files = {path for path in MANIFESTS.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert files == {path for path in listed if path.is_file()}


@NO_KUBECTL
def test_no_password_ships() -> None:
    """Whoever did not make one is told so, and does not get the example's."""
    built = kubectl_kustomize("base", with_secret=False)
    assert built.returncode != 0
    assert SECRET_FILE in built.stderr


def test_what_the_pipeline_asks_for_is_there(resources: tuple[Resource, ...]) -> None:
    cluster = ClusterConfig()
    claims = {resource["metadata"]["name"] for resource in of_kind(resources, "PersistentVolumeClaim")}
    assert {volume.claim for volume in cluster.volumes} <= claims
    assert cluster.service_account in {r["metadata"]["name"] for r in of_kind(resources, "ServiceAccount")}
    (secret,) = of_kind(resources, "Secret")
    assert secret["metadata"]["name"] == cluster.registry.name
    assert cluster.registry.key in secret.get("data", secret.get("stringData"))
    assert kustomization(MANIFESTS / "base")["namespace"] == cluster.namespace
    if "namespace" in secret["metadata"]:  # as built
        assert {resource["metadata"]["namespace"] for resource in resources} == {cluster.namespace}


def test_pods_mount_the_volumes_where_the_steps_do(resources: tuple[Resource, ...]) -> None:
    places = {volume.claim: volume.mount_path for volume in ClusterConfig().volumes}
    mounted = set()
    for whose, _, spec in pods(resources):
        claims = {v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in spec["volumes"]}
        for mount in (mount for container in spec["containers"] for mount in container["volumeMounts"]):
            claim = claims.get(mount["name"])
            if claim in places:
                assert mount["mountPath"] == places[claim], whose
                mounted.add(claim)
    assert mounted == set(places)


def test_the_server_is_told_what_it_understands(resources: tuple[Resource, ...]) -> None:
    from serving.server import main

    for spec in servers(resources):
        (container,) = spec["containers"]
        asked = main.make_context("serving.server", list(container["args"])).params  # raises for an unknown option
        assert str(asked["model_base_path"]) == ClusterConfig().serving_path
        assert asked["host"] == "0.0.0.0"  # or nothing outside of the pod reaches it
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"grpc": asked["port"], "rest": asked["rest_api_port"]}
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "serving"]
        assert mount["readOnly"]
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        status = f"/v1/models/{asked['model_name']}"
        assert paths == {"startup": status, "liveness": status, "readiness": f"{status}/metadata"}


def test_a_pod_is_alive_while_it_loads_and_ready_when_it_answers(tmp_path: Path) -> None:
    """The probes against the server itself, before the first version, while it loads, and after."""
    from starlette.testclient import TestClient

    from serving.batching import Batcher
    from serving.data_plane import DataPlane
    from serving.limits import BatchingConfig, Limits
    from serving.metrics import Metrics
    from serving.model import Users
    from serving.model_config import ModelSettings
    from serving.models import Models
    from serving.rest_api import build_app

    (container,) = servers(world("as written"))[0]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness")}
    seen: list[dict[str, int]] = []

    class Loaded:
        signature_defs: dict[str, Any] = {}  # noqa: RUF012
        version = 7
        users = Users()

        def warm_up(self) -> None:
            look()

    settings = ModelSettings("recommender", tmp_path)
    models = Models([settings], lambda path, version: Loaded())  # type: ignore[arg-type,return-value]
    plane = DataPlane(models, Batcher(BatchingConfig()))
    client = TestClient(build_app(plane, Metrics(models), Limits()))

    def look() -> None:
        seen.append({name: client.get(path).status_code for name, path in probes.items()})

    look()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "saved_model.pb").touch()
    models.watchers[0].poll()
    look()
    assert seen == [
        {"liveness": 404, "readiness": 404},  # what the startup probe waits for
        {"liveness": 200, "readiness": 404},
        {"liveness": 200, "readiness": 200},
    ]


def test_containers_can_do_little(resources: tuple[Resource, ...]) -> None:
    for whose, _, spec in pods(resources):
        assert spec["securityContext"]["runAsNonRoot"], whose
        assert spec["securityContext"]["runAsUser"] > 0, whose
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, whose
        assert spec["automountServiceAccountToken"] is False, whose
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, whose
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, whose
            assert container["resources"]["limits"].keys() == {"memory"}, whose


def test_images_are_pinned_and_ours_are_of_this_version(resources: tuple[Resource, ...]) -> None:
    version = re.search(r'version="(.+?)"', (ROOT / "setup.py").read_text())[1]  # type: ignore[index]
    user = re.findall(r"^USER (\d+):", (ROOT / "kubeflow" / "images" / "steps.Dockerfile").read_text(), re.M)[-1]
    assert ClusterConfig().image.split(":")[0] == OURS
    for whose, _, spec in pods(resources):
        for container in spec["containers"]:
            name, _, tag = container["image"].rpartition(":")
            assert name, f"{whose}: {container['image']} has no tag"
            assert tag != "latest", whose
            if name.endswith(OURS):
                assert tag == version, whose
                assert spec["securityContext"]["runAsUser"] == int(user), whose


def test_every_selector_finds_a_pod(resources: tuple[Resource, ...]) -> None:
    for resource in of_kind(resources, "Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy", *WORKLOADS):
        spec = resource["spec"]
        selector = spec.get("podSelector") or spec.get("selector")
        if resource["kind"] in ("Job", "InferenceService"):
            continue  # Kubernetes and KServe give these their own
        labels = selector.get("matchLabels", selector)
        assert labels, f"{name_of(resource)} selects all of Kubeflow's pods too"
        assert selected(resources, labels), f"{name_of(resource)} selects nothing with {labels}"


def test_every_port_is_one_of_the_pods(resources: tuple[Resource, ...]) -> None:
    for service in of_kind(resources, "Service"):
        for spec in selected(resources, service["spec"]["selector"]):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= port_names(spec), name_of(service)
    for policy in of_kind(resources, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            for spec in selected(resources, policy["spec"]["podSelector"]["matchLabels"]):
                assert {port["port"] for port in rule["ports"]} <= port_names(spec), name_of(policy)
    for monitor in of_kind(resources, "PodMonitor"):
        for spec in selected(resources, monitor["spec"]["selector"]["matchLabels"]):
            assert {at["port"] for at in monitor["spec"]["podMetricsEndpoints"]} <= port_names(spec)
    for whose, _, spec in pods(resources):
        for container in spec["containers"]:
            asked = {p["httpGet"]["port"] for key, p in container.items() if key.endswith("Probe") and "httpGet" in p}
            assert asked <= port_names(spec), whose


def test_what_pods_name_is_there(resources: tuple[Resource, ...]) -> None:
    claims = {resource["metadata"]["name"] for resource in of_kind(resources, "PersistentVolumeClaim")}
    (secret,) = of_kind(resources, "Secret")
    for whose, _, spec in pods(resources):
        named = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        assert named <= claims, whose
        for variable in (v for container in spec["containers"] for v in container.get("env", ()) if "valueFrom" in v):
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == secret["metadata"]["name"], whose
            assert reference["key"] in secret.get("data", secret.get("stringData")), whose


def test_the_autoscaler_scales_something(resources: tuple[Resource, ...]) -> None:
    there = {(r["apiVersion"], r["kind"], r["metadata"]["name"]) for r in resources}
    for scaler in of_kind(resources, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["apiVersion"], target["kind"], target["name"]) in there
        (deployment,) = of_kind(resources, "Deployment")
        assert "replicas" not in deployment["spec"]  # each apply would undo what the autoscaler did


def test_no_pod_is_outside_of_the_default_deny(resources: tuple[Resource, ...]) -> None:
    policies = of_kind(resources, "NetworkPolicy")
    (deny,) = [policy for policy in policies if not {"ingress", "egress"} & set(policy["spec"])]
    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    covered = selected(resources, deny["spec"]["podSelector"]["matchLabels"])
    assert len(covered) == len(list(pods(resources)))


def test_a_pod_that_asks_the_registry_is_let_out_to_it() -> None:
    """The rollback: the one pod of ours that calls out, under a policy that lets nobody."""
    everything = world("as written")
    (job,) = [r for r in everything if r["kind"] == "Job" and "EVERGREEN_REGISTRY_URL" in yaml.safe_dump(r)]
    labels = job["spec"]["template"]["metadata"]["labels"]
    policies = of_kind(everything, "NetworkPolicy")
    (out,) = [policy["spec"] for policy in policies if "egress" in policy["spec"]]
    assert out["podSelector"]["matchLabels"].items() <= labels.items()
    to_registry, _names = out["egress"]
    (target,) = selected(everything, to_registry["to"][0]["podSelector"]["matchLabels"])
    assert target["containers"][0]["ports"][0]["containerPort"] == to_registry["ports"][0]["port"] == 5432
    (into,) = [policy["spec"] for policy in policies if policy["metadata"]["name"] == "evergreen-registry"]
    admitted = into["ingress"][0]["from"]
    assert any(peer["podSelector"]["matchLabels"].items() <= labels.items() for peer in admitted)


def test_a_run_may_do_what_it_must_and_no_more(resources: tuple[Resource, ...]) -> None:
    (role,), (binding,) = of_kind(resources, "Role"), of_kind(resources, "RoleBinding")
    cluster = ClusterConfig()
    subject = {"kind": "ServiceAccount", "name": cluster.service_account, "namespace": cluster.namespace}
    assert binding["subjects"] == [subject]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    rights = {
        (resource, verb): rule.get("resourceNames")
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {("workflowtaskresults", "create"), ("workflowtaskresults", "patch")} <= rights.keys()  # without: no run
    assert not {verb for _, verb in rights} & {"*", "delete", "update", "deletecollection", "escalate", "bind"}
    for (resource, verb), names in rights.items():
        assert resource in ("secrets", "configmaps") or resource.startswith("workflowtask"), resource
        assert resource.startswith("workflowtask") or (verb == "get" and names), f"{resource}: by name only"


def test_the_registrys_url_is_that_of_its_database(resources: tuple[Resource, ...]) -> None:
    secret = example_secret()
    url = make_url(secret[ClusterConfig().registry.key])
    (database,) = of_kind(resources, "StatefulSet")
    service = next(s for s in of_kind(resources, "Service") if s["metadata"]["name"] == url.host)
    assert service["metadata"]["name"] == database["spec"]["serviceName"]
    environment = {v["name"]: v.get("value") for v in database["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert url.drivername == "postgresql+psycopg2"
    assert url.port == service["spec"]["ports"][0]["port"]
    assert (url.username, url.database) == (environment["POSTGRES_USER"], environment["POSTGRES_DB"])
    assert url.password == secret["POSTGRES_PASSWORD"]


def test_nothing_scrapes_a_path_that_the_server_does_not_answer() -> None:
    (monitor,) = of_kind(world("as written"), "PodMonitor")
    (path,) = {endpoint["path"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    using = [overlay.name for overlay in OVERLAYS if kustomization(overlay).get("components")]
    assert not using or path in (ROOT / "serving" / "rest_api.py").read_text(), f"{using}: nothing answers {path}"


def test_pods_are_scraped_under_the_name_that_the_alerts_ask_for() -> None:
    """The operator takes a pod's value of `jobLabel` for the job."""
    (monitor,) = of_kind(world("as written"), "PodMonitor")
    labels = monitor["spec"]["selector"]["matchLabels"]
    rules = (ROOT / "serving" / "deploy" / "prometheus" / "rules.yaml").read_text()
    assert set(re.findall(r'job="([^"]+)"', rules)) == {labels[monitor["spec"]["jobLabel"]]}


@NO_KUBECTL
def test_the_component_adds_up_with_the_base() -> None:
    built = kubectl_kustomize("mine", kustomization="resources: [../base]\ncomponents: [../components/prometheus]\n")
    assert built.returncode == 0, built.stderr
    assert {"Deployment", "PodMonitor"} <= {resource["kind"] for resource in yaml.safe_load_all(built.stdout)}
