"""Kubeflow Pipelines v2 without a cluster: a driver and a launcher that execute a compiled package.

Written from kubeflow/pipelines, backend/src/v2 (driver, component, objectstore), releases 2.5 to 2.17; it has not met a
real cluster. What it keeps to:

    the driver     resolves parameters and artifacts; knows an artifact by its MLMD id; loses its instance schema; gives
                   its metadata back with floats for integers and booleans, {"list": …}, {"struct": …}, two more keys;
                   adds an output `executor-logs`; caches by container, parameters, artifact names and output names
    the launcher   downloads inputs below /minio, makes the parents of outputs, puts the executor input in the place of
                   {{$}}, runs the command, reads the output file, uploads what is there: a missing output is a warning,
                   empty folders are lost, null in metadata is fatal, a URI outside of the run's root is refused
    the pod        begins with an empty root, home and working folder, and with the secrets and volumes of the package;
                   nothing else is shared

A pod is a fork of pods.py, which has imported TFX once: an import is 20 seconds, and no step's business.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

import yaml

NODES = 2
NUMBERS = {"NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float), "STRING": str, "BOOLEAN": bool}
OUTPUT_FILES = ("/tmp/kfp_outputs/output_metadata.json", "/minio/mlpipeline/v2/output_metadata.json")  # to 2.14; since


class BackendError(Exception):
    """The backend refuses the package, or what a step gave back."""


@dataclass
class Task:
    """What became of one task. `artifacts` by output key, as MLMD keeps them; `log` is what the pod printed; `peak_gib`
    is the most memory that it held (resident, with what it shares with its node).
    """

    name: str
    state: str
    seconds: float = 0.0
    peak_gib: float = 0.0
    log: str = ""
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Backend:
    """One installation. `store` is the object store, `secrets` by name and key; both outlive runs."""

    store: Path
    secrets: Mapping[str, Mapping[str, str]]
    output_file: str = OUTPUT_FILES[0]
    cache: dict[str, Task] = field(default_factory=dict)
    ids: Any = field(default_factory=lambda: itertools.count(1))
    _nodes: list[subprocess.Popen[str]] = field(default_factory=list)
    _idle: Queue[subprocess.Popen[str]] = field(default_factory=Queue)
    _starting: Any = field(default_factory=Lock)

    def run(
        self, package: Path, parameters: Mapping[str, Any], look: Callable[[Task], object] = lambda _: None
    ) -> dict[str, Task]:
        """Runs a package, a task per node at a time; tasks in the order they ended, each shown to `look`.

        After the first that fails none is begun, and it is the last. Raises BackendError where the backend itself would
        refuse.
        """
        spec, *platforms = yaml.safe_load_all(package.read_text())
        if spec["schemaVersion"] != "2.1.0":
            raise BackendError(f"schemaVersion {spec['schemaVersion']}")
        root = self._root_parameters(spec, parameters)
        run_id, tasks = str(uuid.uuid4()), spec["root"]["dag"]["tasks"]
        done: dict[str, Task] = {}
        failed: dict[str, Task] = {}
        with ThreadPoolExecutor(NODES) as pool:
            running: dict[Future[Task], str] = {}
            while waiting := [name for name in tasks if name not in done and name not in failed]:
                for name in waiting if not failed else ():
                    if name not in running.values() and set(tasks[name].get("dependentTasks", ())) <= set(done):
                        running[pool.submit(_Step(self, spec, platforms, run_id, name, root, done).run)] = name
                if not running:
                    if failed:
                        break
                    raise BackendError(f"tasks wait for what is not there: {waiting}")
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name, task = running.pop(future), future.result()
                    (failed if task.state == "FAILED" else done)[name] = task
                    look(task)
        return done | failed

    def run_pod(self, pod: Path, command: list[str], environment: dict[str, str]) -> tuple[int, float, str]:
        """Runs a command to its end: the exit code, the peak of its memory in GiB, and what it printed."""
        if command[:3] != ["python", "-m", "evergreen_kubeflow.entrypoint"]:
            raise BackendError(f"no such program in the image: {command[:3]}")
        self.start()
        node = self._idle.get()
        assert node.stdin
        assert node.stdout
        node.stdin.write(json.dumps({"pod": str(pod), "args": command[3:], "environment": environment}) + "\n")
        node.stdin.flush()
        if not (answer := node.stdout.readline()):
            raise BackendError("the cluster's node is gone; see what it printed")
        self._idle.put(node)
        code, peak_kib = map(int, answer.split())
        return code, peak_kib / 2**20, (pod / "log").read_text(errors="replace")

    def start(self) -> None:
        """Brings the nodes up, unless they are; returns when they can run pods."""
        with self._starting:
            if not self._nodes:
                script = [sys.executable, str(Path(__file__).with_name("pods.py"))]
                pipe = subprocess.PIPE
                self._nodes = [subprocess.Popen(script, stdin=pipe, stdout=pipe, text=True) for _ in range(NODES)]
                for node in self._nodes:
                    assert node.stdout
                    node.stdout.readline()
                    self._idle.put(node)

    def path(self, uri: str) -> Path:
        """Where the store keeps an object or a prefix."""
        return self.store / uri.removeprefix("minio://")

    def close(self) -> None:
        """Ends the nodes."""
        for node in self._nodes:
            node.communicate()
        self._nodes, self._idle = [], Queue()

    @staticmethod
    def _root_parameters(spec: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        known = spec["root"]["inputDefinitions"]["parameters"]
        if unknown := set(given) - set(known):
            raise BackendError(f"unknown parameters {unknown}")
        values = {name: given.get(name, parameter.get("defaultValue")) for name, parameter in known.items()}
        if missing := [name for name, value in values.items() if value is None]:
            raise BackendError(f"parameters without value or default: {missing}")
        return values


class _Step:
    """One task: driver, launcher, pod."""

    def __init__(
        self,
        backend: Backend,
        spec: dict[str, Any],
        platforms: list[dict[str, Any]],
        run_id: str,
        name: str,
        root: Mapping[str, Any],
        done: Mapping[str, Task],
    ) -> None:
        self.backend, self.name, self.done, self.run_id = backend, name, done, run_id
        self.root_parameters = root
        self.task = spec["root"]["dag"]["tasks"][name]
        self.component = spec["components"][self.task["componentRef"]["name"]]
        label = self.component["executorLabel"]
        self.container = spec["deploymentSpec"]["executors"][label]["container"]
        self.platform = (
            platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label] if platforms else {}
        )
        pipeline = spec["pipelineInfo"]["name"]
        self.uri_root = f"minio://mlpipeline/v2/artifacts/{pipeline}/{run_id}"

    def run(self) -> Task:
        started = time.perf_counter()
        inputs = {"parameterValues": self._parameters(), "artifacts": self._artifacts()}
        key = self._cache_key(inputs)
        if self.task.get("cachingOptions", {}).get("enableCache") and key in self.backend.cache:
            hit = self.backend.cache[key]
            return Task(self.name, "CACHED", time.perf_counter() - started, 0.0, "", hit.artifacts, hit.parameters)
        folder = f"{self.uri_root}/{self.name}/{uuid.uuid4()}"
        declared = self.component.get("outputDefinitions", {})
        artifacts = {k: spec["artifactType"] for k, spec in declared.get("artifacts", {}).items()}
        executor_input = {
            "inputs": inputs,
            "outputs": {
                "artifacts": {
                    key: {"artifacts": [{"name": "", "uri": f"{folder}/{key}", "type": kind, "metadata": {}}]}
                    for key, kind in {**artifacts, "executor-logs": {"schemaTitle": "system.Artifact"}}.items()
                },
                "parameters": {k: {"outputFile": f"/tmp/kfp/outputs/{k}"} for k in declared.get("parameters", {})},
                "outputFile": self.backend.output_file,
            },
        }
        task = self._launch(executor_input, list(artifacts))
        task.seconds = time.perf_counter() - started
        if task.state == "SUCCEEDED":
            self.backend.cache[key] = task
        return task

    def _parameters(self) -> dict[str, Any]:
        kinds = self.component.get("inputDefinitions", {}).get("parameters", {})
        given = self.task.get("inputs", {}).get("parameters", {})
        if missing := set(kinds) - set(given):
            raise BackendError(f"{self.name}: parameters without a source: {missing}")
        values = {}
        for name, source in given.items():
            if "componentInputParameter" in source:
                value = self.root_parameters[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                wanted = source["taskOutputParameter"]
                if wanted["producerTask"] not in self.task["dependentTasks"]:
                    raise BackendError(
                        f"{self.name}: {name} comes from {wanted['producerTask']}, which it does not await"
                    )
                value = self.done[wanted["producerTask"]].parameters[wanted["outputParameterKey"]]
            else:
                value = source["runtimeValue"]["constant"]
                value = self.run_id if value == "{{$.pipeline_job_uuid}}" else value
            kind = kinds[name]["parameterType"]
            if kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
                value = int(value)
            if not isinstance(value, NUMBERS[kind]):
                raise BackendError(f"{self.name}: parameter {name} is {value!r}, declared {kind}")
            values[name] = value
        return values

    def _artifacts(self) -> dict[str, Any]:
        given = self.task.get("inputs", {}).get("artifacts", {})
        found = {}
        for key in self.component.get("inputDefinitions", {}).get("artifacts", {}):
            source = given[key]["taskOutputArtifact"]
            record = self.done[source["producerTask"]].artifacts[source["outputArtifactKey"]]
            found[key] = {"artifacts": [{**record, "type": {"instanceSchema": ""}}]}
        return found

    def _cache_key(self, inputs: dict[str, Any]) -> str:
        names = {key: [a["name"] for a in given["artifacts"]] for key, given in inputs["artifacts"].items()}
        outputs = self.component.get("outputDefinitions", {})
        container = [self.container[part] for part in ("image", "command", "args")]
        facts = [container, inputs["parameterValues"], names, outputs]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _launch(self, executor_input: dict[str, Any], outputs: list[str]) -> Task:
        pod = self.backend.store.parent / "pods" / f"{self.name}-{uuid.uuid4().hex[:6]}"
        for given in executor_input["inputs"]["artifacts"].values():
            for artifact in given["artifacts"]:
                _copy(self.backend.path(artifact["uri"]), _in_pod(pod, artifact["uri"]))
        for slot in executor_input["outputs"]["artifacts"].values():
            _in_pod(pod, slot["artifacts"][0]["uri"]).parent.mkdir(parents=True, exist_ok=True)
        command = [*self.container["command"], *self.container["args"]]
        command = [part.replace("{{$}}", json.dumps(executor_input)) for part in command]
        environment = {
            pair["envVar"]: self.backend.secrets[secret["secretName"]][pair["secretKey"]]
            for secret in self.platform.get("secretAsEnv", ())
            for pair in secret["keyToEnv"]
        }
        code, peak, log = self.backend.run_pod(pod, command, environment)
        if code:
            shutil.rmtree(pod)
            return Task(self.name, "FAILED", peak_gib=peak, log=log)
        written = json.loads((pod / self.backend.output_file.lstrip("/")).read_text(), parse_constant=_refused)
        task = Task(self.name, "SUCCEEDED", peak_gib=peak, log=log, parameters=written.get("parameterValues", {}))
        for key in outputs:
            uri = executor_input["outputs"]["artifacts"][key]["artifacts"][0]["uri"]
            told = (written.get("artifacts", {}).get(key, {}).get("artifacts") or [{}])[0]
            uri = told.get("uri") or uri
            if not uri.startswith(self.uri_root):
                raise BackendError(f"{self.name}: output {key} at {uri} is outside of {self.uri_root}")
            if _in_pod(pod, uri).exists():
                _copy(_in_pod(pod, uri), self.backend.path(uri))
            number = next(self.backend.ids)
            metadata = {name: _kept(value) for name, value in told.get("metadata", {}).items()}
            metadata |= {"display_name": key, "store_session_info": json.dumps({"Provider": "minio"})}
            task.artifacts[key] = {"name": str(number), "uri": uri, "metadata": metadata}
        if missing := set(self.component.get("outputDefinitions", {}).get("parameters", {})) - set(task.parameters):
            raise BackendError(f"{self.name}: no value for the output parameters {missing}")
        shutil.rmtree(pod)
        return task


def _refused(constant: str) -> None:
    raise BackendError(f"{constant} is no JSON")


def _kept(value: Any) -> Any:
    """What MLMD makes of a value of metadata."""
    if value is None:
        raise BackendError("null in metadata")
    if isinstance(value, (bool, int, float)):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value


def _in_pod(pod: Path, uri: str) -> Path:
    return pod / uri.replace("minio://", "minio/")


def _copy(source: Path, target: Path) -> None:
    """As an object store does: a file, or every file below a prefix; an empty folder is nothing."""
    for path in [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file()):
        copy = target / path.relative_to(source) if path != source else target
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
