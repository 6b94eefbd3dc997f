"""The API of Kubeflow Pipelines as this project uses it: upload once, run, schedule, follow."""

import contextlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api as api

from evergreen_kubeflow.errors import ClusterError, NotFound, Unreachable
from evergreen_kubeflow.transport import BoundedApi
from pipeline.cluster_config import ClusterConfig

PAGE, MAX_PAGES = 100, 10
PATIENCE = 5  # polls in a row that may go unanswered: a port-forward breaks and comes back
ONGOING = (None, "RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "CANCELING", "PAUSED")


@dataclass(frozen=True)
class Version:
    """A package on the server; `how` it came there is "created", "added" or "reused"."""

    pipeline_id: str
    version_id: str
    name: str
    how: str


class Client:
    """One pipeline on one cluster. Every method raises ClusterError when the server refuses or does not answer."""

    def __init__(self, sdk: kfp.Client, cluster: ClusterConfig, pipeline: str, namespace: str | None = None) -> None:
        """`namespace` is for a server with many users only; one with a single user refuses it."""
        self._sdk, self._cluster, self._pipeline, self._namespace = sdk, cluster, pipeline, namespace

    @classmethod
    def connect(
        cls,
        cluster: ClusterConfig,
        pipeline: str,
        host: str | None = None,
        *,
        token: str | None = None,
        cookie: str | None = None,
    ) -> "Client":
        """Asks the server whether it is there, and whether it has many users."""
        host = host or cluster.host
        if not re.match(r"https?://[^/]", host):
            raise ClusterError(f"host {host!r} is no address; expected one such as http://localhost:8888")
        sdk = BoundedApi(cluster.namespace, host=host, existing_token=token or None, cookies=cookie or None)
        return cls(sdk, cluster, pipeline, cluster.namespace if sdk.get_kfp_healthz().multi_user else None)

    def upload(self, package: Path, version_name: str) -> Version:
        """The version of that name: the one that is there, or a new one of this package."""
        pipeline_id = self._pipeline_id()
        how = "added" if pipeline_id else "created"
        if pipeline_id is None:  # without a version: `upload_pipeline` would name its first one after the pipeline
            body = api.V2beta1Pipeline(display_name=self._pipeline, namespace=self._namespace)
            pipeline_id = self._sdk.pipelines.create_pipeline(body=body).pipeline_id
        else:
            there = self._sdk.list_pipeline_versions(pipeline_id, filter=_named(version_name)).pipeline_versions
            if there:
                return Version(pipeline_id, there[0].pipeline_version_id, version_name, "reused")
        with _silently():
            made = self._sdk.upload_pipeline_version(str(package), version_name, pipeline_id=pipeline_id)
        return Version(pipeline_id, made.pipeline_version_id, version_name, how)

    def submit(self, version: Version, parameters: Mapping[str, Any], run_name: str) -> str:
        """Starts one run and returns its id. Parameters that are not given keep the package's values."""
        what = self._what(version, parameters)
        with _silently():
            return self._sdk.run_pipeline(job_name=run_name, **what).run_id

    def schedule(self, version: Version, parameters: Mapping[str, Any], cron: str) -> int:
        """Runs it by the clock from now on; returns how many schedules of the pipeline this one replaces."""
        old = self._schedules()  # a recurring run cannot be changed: the new one stands before the old one goes
        for schedule in old:
            self._sdk.disable_recurring_run(schedule.recurring_run_id)
        try:
            self._sdk.create_recurring_run(
                job_name=self._pipeline,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                **self._what(version, parameters),
            )
        except ClusterError:
            for schedule in old:
                self._sdk.enable_recurring_run(schedule.recurring_run_id)
            raise
        for schedule in old:
            self._sdk.delete_recurring_run(schedule.recurring_run_id)
        return len(old)

    def unschedule(self) -> int:
        """Takes the pipeline off the clock; returns how many schedules it had."""
        old = self._schedules()
        for schedule in old:
            self._sdk.disable_recurring_run(schedule.recurring_run_id)
            self._sdk.delete_recurring_run(schedule.recurring_run_id)
        return len(old)

    def run(self, run_id: str) -> api.V2beta1Run:
        """One run with its tasks."""
        try:
            return self._sdk.get_run(run_id)
        except NotFound as error:
            raise NotFound(f"no run {run_id!r} ({error}); those there are: evergreen kubeflow status") from error

    def runs(self, limit: int) -> list[api.V2beta1Run]:
        """This pipeline's runs, by hand and by the clock, the newest first."""
        pipeline_id = self._pipeline_id()
        found: list[api.V2beta1Run] = []
        page: str | None = ""
        for _ in range(MAX_PAGES if pipeline_id else 0):
            answer = self._sdk.list_runs(page, PAGE, "created_at desc", namespace=self._namespace)
            for run in answer.runs or ():
                version = run.pipeline_version_reference
                if version and version.pipeline_id == pipeline_id:
                    found.append(run)
            page = answer.next_page_token
            if not page or len(found) >= limit:
                break
        return found[:limit]

    def wait(
        self,
        run_id: str,
        look: Callable[[api.V2beta1Run], None],
        poll_seconds: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> api.V2beta1Run:
        """Polls until the run is over, and shows `look` every answer. A short silence of the server is forgiven."""
        unanswered = 0
        while True:
            try:
                run = self.run(run_id)
                unanswered = 0
                look(run)
                if run.state not in ONGOING:
                    return run
            except Unreachable as error:
                unanswered += 1
                if unanswered > PATIENCE:
                    raise Unreachable(f"{error}; the run goes on: evergreen kubeflow status … {run_id}") from error
            sleep(poll_seconds)

    def link(self, run_id: str) -> str:
        """Where the UI shows the run: KF_PIPELINES_UI_ENDPOINT, or the host."""
        return f"{self._sdk._get_url_prefix()}/#/runs/details/{run_id}"

    def _what(self, version: Version, parameters: Mapping[str, Any]) -> dict[str, Any]:
        with _silently():  # the one that is there, or a new one
            experiment = self._sdk.create_experiment(self._cluster.experiment, namespace=self._namespace)
        return {
            "experiment_id": experiment.experiment_id,
            "pipeline_id": version.pipeline_id,
            "version_id": version.version_id,
            "params": dict(parameters),
            "pipeline_root": self._cluster.pipeline_root,
            "service_account": self._cluster.service_account,
        }

    def _pipeline_id(self) -> str | None:
        found = self._sdk.list_pipelines(filter=_named(self._pipeline), namespace=self._namespace).pipelines
        return found[0].pipeline_id if found else None

    def _schedules(self) -> list[api.V2beta1RecurringRun]:
        answer = self._sdk.list_recurring_runs(page_size=PAGE, namespace=self._namespace, filter=_named(self._pipeline))
        return answer.recurring_runs or []


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """The SDK prints links; a command prints its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
