"""Kubeflow Pipelines' API (v2beta1) in memory, over real HTTP: as strict as the real one where its strictness shows.

    with ApiServer() as server:
        server.progress = [("RUNNING", [task("trainer", "RUNNING")]), ("SUCCEEDED", [task("trainer", "SUCCEEDED", 12)])]
        Client.connect(cluster, "tiny", server.url)

Written from the Go sources of kubeflow/pipelines 2.x (backend/src/apiserver/server): it refuses a namespace when there
is one user and wants one when there are many, refuses unknown parameters and those without a value, parses a package
as PipelineSpec and PlatformSpec, and names the first version of an uploaded pipeline after the pipeline.
"""

from __future__ import annotations

import email.policy
import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Reply = dict[str, Any]
START = datetime(2026, 3, 1, 2, 30, tzinfo=timezone.utc)
KINDS = {int: "NUMBER_INTEGER", str: "STRING"}


class Refused(Exception):
    """What is answered instead: a message in the API's form, an object, or (for what is no API) a page.

    Status 0 hangs up without an answer, as a port-forward does when its pod goes.
    """

    def __init__(self, status: int, body: str | Reply, *, is_page: bool = False) -> None:
        super().__init__(body)
        self.status = status
        is_message = isinstance(body, str) and not is_page
        self.body: Any = {"code": status, "message": body, "details": []} if is_message else body


def task(name: str, state: str, seconds: float | None = None, error: str = "") -> Reply:
    """A task of a run as the API tells it; `seconds` from its start to its end, None while it works."""
    end = {} if seconds is None else {"end_time": _time(START + timedelta(seconds=seconds))}
    why = {"error": {"code": 2, "message": error}} if error else {}
    return {"task_id": f"id-of-{name}", "display_name": name, "state": state, "start_time": _time(START), **end, **why}


def package(folder: Path, name: str, **changes: Any) -> Path:
    """The smallest package of a pipeline, with one task and with parameters that all have values; a new file."""
    given = {"span": ("NUMBER_INTEGER", -1), "window_spans": ("NUMBER_INTEGER", 0), "cause": ("STRING", "by hand")}
    given |= {"data_root": ("STRING", "/data"), "serving_path": ("STRING", "/s"), "releases_path": ("STRING", "/r")}
    parameters = {key: {"parameterType": kind, "defaultValue": value} for key, (kind, value) in given.items()}
    spec = {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "sdkVersion": "tfx-1.16.0",
        "root": {
            "inputDefinitions": {"parameters": parameters},
            "dag": {"tasks": {"train": {"componentRef": {"name": "comp-train"}, "taskInfo": {"name": "train"}}}},
        },
        "components": {"comp-train": {"executorLabel": "exec-train"}},
        "deploymentSpec": {"executors": {"exec-train": {"container": {"image": "steps:1"}}}},
    }
    path = folder / f"{name}-{uuid.uuid4().hex}.yaml"
    path.write_text(yaml.safe_dump_all([spec | changes, {"platforms": {"kubernetes": {"deploymentSpec": {}}}}]))
    return path


class ApiServer:
    """The server and all it holds. `fault` may answer any request instead: (method, path) -> Refused or None."""

    def __init__(self) -> None:
        self.is_multi_user = False
        self.token = ""  # a request without it is refused
        self.fault: Callable[[str, str], Refused | None] = lambda method, path: None
        self.progress: list[tuple[str, list[Reply]]] = []  # what a run is like, each time that it is asked for
        self.requests: list[tuple[str, str]] = []
        self.experiments: list[Reply] = []
        self.pipelines: list[Reply] = []
        self.versions: list[Reply] = []
        self.runs: list[Reply] = []
        self.recurring: list[Reply] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, authorization: str) -> Reply:
        """Routes one request. Raises Refused."""
        self.requests.append((method, path))
        if fault := self.fault(method, path):
            raise fault
        if self.token and authorization != f"Bearer {self.token}":
            raise Refused(401 if not authorization else 403, "Unauthenticated: no or wrong token")
        collection, _, rest = path.removeprefix("/apis/v2beta1/").partition("/")
        if collection == "healthz":
            return {"multi_user": self.is_multi_user}
        if collection == "pipelines":
            return self._pipelines(method, rest, query, body)
        kind = {"experiments": "experiment", "runs": "run", "recurringruns": "recurring_run"}.get(collection)
        if not kind:
            raise Refused(404, "Not Found")
        held = {"experiment": self.experiments, "run": self.runs, "recurring_run": self.recurring}[kind]
        if not rest:
            if method == "GET":
                self._check_namespace(query.get("namespace"), query.get("experiment_id"))
                return _page(held, collection if kind != "recurring_run" else "recurringRuns", query)
            return getattr(self, f"_create_{kind}")(body)
        wanted, _, verb = rest.partition(":")
        found = [thing for thing in held if thing[f"{kind}_id"] == wanted]
        if not found:
            raise Refused(404, f"Failed to get a {kind}: ResourceNotFoundError: {kind} {wanted} not found")
        if method == "DELETE":
            held.remove(found[0])
        elif verb in ("enable", "disable"):
            found[0]["mode"] = verb.upper()
        elif kind == "run" and self.progress:
            state, tasks = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
            found[0] |= {"state": state, "run_details": {"task_details": tasks}}
            if state not in ("PENDING", "RUNNING"):
                found[0]["finished_at"] = _time(_when(found[0]) + timedelta(seconds=90))
        return {} if verb or method == "DELETE" else found[0]

    def _pipelines(self, method: str, rest: str, query: dict[str, str], body: Any) -> Reply:
        if method == "GET" and not rest:
            return _page(self.pipelines, "pipelines", query)
        if method == "GET":
            pipeline_id = rest.split("/")[0]
            return _page([v for v in self.versions if v["pipeline_id"] == pipeline_id], "pipeline_versions", query)
        if rest == "upload_version":
            return self._add_version(query["pipelineid"], query["name"], _spec(body))
        if rest == "upload":
            pipeline = self._add_pipeline(query["name"])
            self._add_version(pipeline["pipeline_id"], query["name"], _spec(body))
            return pipeline
        self._check_namespace(body.get("namespace"))
        return self._add_pipeline(body["display_name"])

    def _add_pipeline(self, name: str) -> Reply:
        if any(pipeline["display_name"] == name for pipeline in self.pipelines):
            raise Refused(409, f"Already exist error: the pipeline {name} already exist")
        self.pipelines.append(_new("pipeline_id", self.pipelines, display_name=name))
        return self.pipelines[-1]

    def _add_version(self, pipeline_id: str, name: str, spec: Reply) -> Reply:
        if any((v["pipeline_id"], v["display_name"]) == (pipeline_id, name) for v in self.versions):
            raise Refused(409, {"error_message": "Failed to create a pipeline version", "error_details": name})
        version = _new("pipeline_version_id", self.versions, display_name=name, pipeline_id=pipeline_id)
        self.versions.append(version | {"pipeline_spec": spec})
        return self.versions[-1]

    def _create_experiment(self, body: Reply) -> Reply:
        self._check_namespace(body.get("namespace"))
        self.experiments.append(_new("experiment_id", self.experiments, **body))
        return self.experiments[-1]

    def _create_run(self, body: Reply) -> Reply:
        self._check_parameters(body)
        self.runs.append(_new("run_id", self.runs, **body, state="PENDING", finished_at="1970-01-01T00:00:00Z"))
        return self.runs[-1]

    def _create_recurring_run(self, body: Reply) -> Reply:
        self._check_parameters(body)
        if len(body["trigger"]["cron_schedule"]["cron"].split()) not in (5, 6):
            raise Refused(400, "Invalid input error: The trigger is invalid")
        self.recurring.append(_new("recurring_run_id", self.recurring, **body))
        return self.recurring[-1]

    def _check_namespace(self, namespace: str | None, experiment_id: str | None = None) -> None:
        if namespace and not self.is_multi_user:
            raise Refused(400, "Invalid input error: In single-user mode, a namespace cannot be given")
        if self.is_multi_user and not namespace and not experiment_id:
            raise Refused(400, "Invalid input error: Namespace cannot be empty in multi-user mode")

    def _check_parameters(self, body: Reply) -> None:
        wanted = body["pipeline_version_reference"]
        found = [v for v in self.versions if v["pipeline_version_id"] == wanted["pipeline_version_id"]]
        if not found or body["experiment_id"] not in [e["experiment_id"] for e in self.experiments]:
            raise Refused(404, "Failed to create: ResourceNotFoundError: no such version or experiment")
        known = found[0]["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        given = body["runtime_config"].get("parameters", {})
        wrong = [n for n, value in given.items() if known.get(n, {}).get("parameterType") != KINDS.get(type(value))]
        if missing := wrong + [n for n, about in known.items() if "defaultValue" not in about and n not in given]:
            raise Refused(400, f"Invalid input error: parameters {missing} are unknown, of another type or missing")


def _new(id_key: str, held: list[Reply], **facts: Any) -> Reply:
    created = START + timedelta(minutes=len(held))
    return {**facts, id_key: str(uuid.uuid4()), "created_at": _time(created)}


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _when(thing: Reply) -> datetime:
    return datetime.fromisoformat(thing["created_at"].replace("Z", "+00:00"))


def _page(held: list[Reply], key: str, query: dict[str, str]) -> Reply:
    found = sorted(held, key=_when, reverse=query.get("sort_by", "").endswith("desc"))
    for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
        if predicate["operation"] not in ("EQUALS", 1):
            raise Refused(400, "Invalid input error: an operation that is not known here")
        found = [thing for thing in found if thing.get(predicate["key"]) == predicate["stringValue"]]
    begin, size = int(query.get("page_token") or 0), int(query.get("page_size") or 10)
    more = {"next_page_token": str(begin + size)} if begin + size < len(found) else {}
    return {key: found[begin : begin + size], "total_size": len(found), **more}


def _spec(uploaded: bytes) -> Reply:
    """The PipelineSpec of an uploaded file. Raises Refused as the server does: with few words."""
    try:
        spec, *platforms = yaml.safe_load_all(uploaded)
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        for platform in platforms:
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        if spec["schemaVersion"] != "2.1.0" or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", spec["pipelineInfo"]["name"]):
            raise ValueError("schema version or name")
    except (ValueError, KeyError, yaml.YAMLError, json_format.ParseError) as error:
        raise Refused(400, {"error_message": f"invalid v2 pipeline spec: {error}", "error_details": ""}) from error
    return spec


def _handler_of(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every answer waits 40 ms for its second packet

        def _answer(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type", "")
            if kind.startswith("multipart/"):
                message = BytesParser(policy=email.policy.HTTP).parsebytes(f"Content-Type: {kind}\n\n".encode() + raw)
                parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
                body: Any = parts["uploadfile"].get_payload(decode=True)
            else:
                body = json.loads(raw) if raw else {}
            try:
                query = dict(parse_qsl(url.query))
                authorization = self.headers.get("authorization", "")
                status, reply = 200, server.answer(self.command, url.path, query, body, authorization)
            except Refused as refused:
                status, reply = refused.status, refused.body
            if not status:  # hangs up
                self.close_connection = True
                return
            is_text = isinstance(reply, str)
            told = (reply if is_text else json.dumps(reply)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if is_text else "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
