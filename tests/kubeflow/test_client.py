"""The client over the real SDK and real HTTP, against the API in memory of api_server.py."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evergreen_kubeflow.client import Client, Version
from evergreen_kubeflow.errors import ClusterError, NotFound, Unreachable
from pipeline.cluster_config import ClusterConfig
from tests.kubeflow.api_server import ApiServer, Refused, package, task

CLUSTER = ClusterConfig(experiment="nightly", service_account="runner", pipeline_root="minio://bucket/root")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def client(server: ApiServer) -> Client:
    return Client.connect(CLUSTER, "tiny", server.url)


@pytest.fixture
def version(client: Client, tmp_path: Path) -> Version:
    return client.upload(package(tmp_path, "tiny"), "v1")


def test_the_first_upload_makes_the_pipeline_with_one_version_of_the_given_name(
    server: ApiServer, client: Client, version: Version
) -> None:
    assert version.how == "created"
    assert [pipeline["display_name"] for pipeline in server.pipelines] == ["tiny"]
    # had it been uploaded as a pipeline, the server would have named the version "tiny"
    assert [(v["display_name"], v["pipeline_version_id"]) for v in server.versions] == [("v1", version.version_id)]


def test_another_package_is_a_new_version_and_the_same_one_is_reused(
    server: ApiServer, client: Client, version: Version, tmp_path: Path
) -> None:
    added = client.upload(package(tmp_path, "tiny"), "v2")
    assert (added.how, added.pipeline_id) == ("added", version.pipeline_id)
    assert client.upload(package(tmp_path, "tiny"), "v1") == replace(version, how="reused")
    assert [v["display_name"] for v in server.versions] == ["v1", "v2"]


def test_a_run_has_the_given_parameters_and_nothing_else(server: ApiServer, client: Client, version: Version) -> None:
    run_id = client.submit(version, {"span": 3, "cause": "a try"}, "tiny at noon")
    (run,) = server.runs
    assert run["run_id"] == run_id
    assert run["display_name"] == "tiny at noon"
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version.version_id
    assert run["runtime_config"] == {
        "parameters": {"span": 3, "cause": "a try"},
        "pipeline_root": "minio://bucket/root",
    }
    assert run["service_account"] == "runner"
    assert client.link(run_id) == f"{server.url}/#/runs/details/{run_id}"


def test_the_experiment_is_made_once(server: ApiServer, client: Client, version: Version) -> None:
    client.submit(version, {}, "one")
    client.submit(version, {}, "two")
    (experiment,) = server.experiments
    assert experiment["display_name"] == "nightly"
    assert {run["experiment_id"] for run in server.runs} == {experiment["experiment_id"]}


def test_the_sdk_keeps_its_links_to_itself(
    client: Client, version: Version, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    client.upload(package(tmp_path, "tiny"), "v2")
    client.submit(version, {}, "one")
    client.schedule(version, {}, "0 30 2 * * *")
    assert capfd.readouterr() == ("", "")


def test_what_the_server_refuses_is_told_in_its_words(client: Client, version: Version) -> None:
    with pytest.raises(ClusterError, match=r"answered 400: Invalid input error: parameters \['spam'\] are unknown"):
        client.submit(version, {"spam": 3}, "one")


def test_what_an_upload_lacks_is_told_too(client: Client, tmp_path: Path) -> None:
    broken = package(tmp_path, "tiny", schemaVersion="2.0.0")
    with pytest.raises(ClusterError, match="answered 400: invalid v2 pipeline spec"):
        client.upload(broken, "v1")


def test_a_schedule_never_overlaps_itself_and_does_not_catch_up(
    server: ApiServer, client: Client, version: Version
) -> None:
    assert client.schedule(version, {"cause": "schedule [[ScheduledTime]]"}, "0 30 2 * * *") == 0
    (schedule,) = server.recurring
    assert schedule["display_name"] == "tiny"
    assert schedule["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}
    assert schedule["mode"] == "ENABLE"
    assert schedule["max_concurrency"] in (1, "1")
    assert schedule["no_catchup"] is True
    assert schedule["runtime_config"]["parameters"] == {"cause": "schedule [[ScheduledTime]]"}
    assert schedule["runtime_config"]["pipeline_root"] == "minio://bucket/root"
    assert schedule["service_account"] == "runner"


def test_a_new_schedule_replaces_the_old_one_of_this_pipeline_only(
    server: ApiServer, client: Client, version: Version, tmp_path: Path
) -> None:
    other = Client.connect(CLUSTER, "other", server.url)
    other.schedule(other.upload(package(tmp_path, "other"), "v1"), {}, "0 0 1 * * *")
    client.schedule(version, {}, "0 0 2 * * *")
    assert client.schedule(version, {}, "0 0 3 * * *") == 1
    crons = [(s["display_name"], s["trigger"]["cron_schedule"]["cron"]) for s in server.recurring]
    assert crons == [("other", "0 0 1 * * *"), ("tiny", "0 0 3 * * *")]
    verbs = [path.rpartition(":")[2] if ":" in path else method for method, path in server.requests]
    assert verbs.index("disable") < verbs.index("DELETE")


def test_a_schedule_that_is_refused_leaves_the_old_one_running(
    server: ApiServer, client: Client, version: Version
) -> None:
    client.schedule(version, {}, "0 0 2 * * *")
    with pytest.raises(ClusterError, match="unknown"):
        client.schedule(version, {"spam": 1}, "0 0 3 * * *")
    (schedule,) = server.recurring
    assert (schedule["trigger"]["cron_schedule"]["cron"], schedule["mode"]) == ("0 0 2 * * *", "ENABLE")


def test_off_the_clock(server: ApiServer, client: Client, version: Version) -> None:
    client.schedule(version, {}, "0 0 2 * * *")
    assert client.unschedule() == 1
    assert server.recurring == []
    assert client.unschedule() == 0


def test_runs_are_this_pipelines_the_newest_first(
    server: ApiServer, client: Client, version: Version, tmp_path: Path
) -> None:
    other = Client.connect(CLUSTER, "other", server.url)
    assert other.runs(5) == []
    theirs = other.upload(package(tmp_path, "other"), "v1")
    ours = []
    for number in range(110):  # more than one page of 100; every tenth is another pipeline's
        if number % 10:
            ours.append(client.submit(version, {}, str(number)))
        else:
            other.submit(theirs, {}, str(number))
    assert [run.run_id for run in client.runs(200)] == ours[::-1]  # 110 − 11 = 99
    assert [run.run_id for run in client.runs(2)] == [ours[-1], ours[-2]]


def test_an_unknown_run_is_named(client: Client) -> None:
    with pytest.raises(NotFound, match=r"no run 'r7'.*evergreen kubeflow status"):
        client.run("r7")


def test_waiting_looks_at_every_answer_until_the_run_is_over(
    server: ApiServer, client: Client, version: Version
) -> None:
    server.progress = [
        ("PENDING", []),
        ("RUNNING", [task("trainer", "RUNNING")]),
        ("SUCCEEDED", [task("trainer", "SUCCEEDED", 12)]),
    ]
    seen: list[str] = []
    slept: list[float] = []
    run_id = client.submit(version, {}, "one")
    run = client.wait(run_id, lambda run: seen.append(run.state), 7.0, slept.append)
    assert run.state == "SUCCEEDED"
    assert seen == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert slept == [7.0, 7.0]  # between three answers


def silence(server: ApiServer, polls: int) -> None:
    """The next `polls` questions for a run go unanswered."""
    left = [Refused(0, "")] * polls
    server.fault = lambda method, path: left.pop() if left and "/runs/" in path else None


def test_waiting_forgives_a_short_silence(server: ApiServer, client: Client, version: Version) -> None:
    server.progress = [("RUNNING", []), ("SUCCEEDED", [])]
    run_id = client.submit(version, {}, "one")
    silence(server, 5)
    assert client.wait(run_id, lambda run: silence(server, 5), sleep=lambda _: None).state == "SUCCEEDED"


def test_waiting_gives_up_after_a_long_silence_and_says_that_the_run_goes_on(
    server: ApiServer, client: Client, version: Version
) -> None:
    run_id = client.submit(version, {}, "one")
    silence(server, 6)
    with pytest.raises(Unreachable, match=f"the run goes on: evergreen kubeflow status … {run_id}"):
        client.wait(run_id, lambda run: None, sleep=lambda _: None)


def test_a_server_of_many_users_is_told_the_namespace(tmp_path: Path) -> None:
    with ApiServer() as server:
        server.is_multi_user = True
        client = Client.connect(replace(CLUSTER, namespace="team-a"), "tiny", server.url)
        version = client.upload(package(tmp_path, "tiny"), "v1")  # refused without a namespace
        client.submit(version, {}, "one")
        client.schedule(version, {}, "0 0 2 * * *")
        assert len(client.runs(5)) == 1
        assert client.unschedule() == 1
        assert server.experiments[0]["namespace"] == "team-a"


FORWARD = r"kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888`, or name its address with --host"


def refusal(host: str, **options: Any) -> tuple[ClusterError, float]:
    """What connecting raises, and after how many seconds."""
    started = time.perf_counter()
    with pytest.raises(ClusterError) as caught:
        Client.connect(CLUSTER, "tiny", host, **options)
    return caught.value, time.perf_counter() - started


def test_nobody_there_is_told_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    error, seconds = refusal(f"http://127.0.0.1:{port}")
    assert isinstance(error, Unreachable)
    expected = f"no answer from http://127.0.0.1:{port} (Failed to establish a new connection: [Errno 111] Connection "
    assert str(error).startswith(expected)
    assert FORWARD in str(error)
    assert seconds < 2
    assert capfd.readouterr().err == ""  # no warnings about retries


def test_a_port_that_never_answers_is_given_up(server: ApiServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error, seconds = refusal(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert isinstance(error, Unreachable)
    assert "Read timed out" in str(error)
    assert FORWARD in str(error)
    assert seconds < 8


def test_tls_where_there_is_none_is_told(server: ApiServer) -> None:
    error, _ = refusal(server.url.replace("http://", "https://"))
    assert isinstance(error, Unreachable)
    assert "SSL" in str(error)


@pytest.mark.parametrize("host", ["localhost:8888", "http://", "my-cluster"])
def test_a_host_without_a_scheme_is_refused(host: str) -> None:
    error, _ = refusal(host)
    assert f"host {host!r} is no address; expected one such as http://localhost:8888" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        Refused(200, "<html>Please log in</html>", is_page=True),
        Refused(404, "<html>nginx</html>", is_page=True),
        Refused(404, "Not Found"),  # what version 1 of Kubeflow Pipelines says
        Refused(404, {"detail": "Not Found"}),
    ],
    ids=["login page", "web server", "version 1", "another API"],
)
def test_something_else_at_the_host_is_told(server: ApiServer, answer: Refused) -> None:
    server.fault = lambda method, path: answer
    error, seconds = refusal(server.url)
    assert f"{server.url} answers, but not as the API of Kubeflow Pipelines v2" in str(error)
    assert FORWARD in str(error)
    assert "EVERGREEN_KUBEFLOW_COOKIE" in str(error)  # it may be a login
    assert seconds < 2  # the SDK alone asks five times, five seconds apart


def test_without_a_token_the_variables_to_set_are_named(server: ApiServer, tmp_path: Path) -> None:
    server.token = "secret"
    unknown, seconds = refusal(server.url)
    wrong, _ = refusal(server.url, token="wrong")
    for error, status in ((unknown, "(401: "), (wrong, "(403: ")):
        assert status in str(error)
        assert "EVERGREEN_KUBEFLOW_TOKEN" in str(error)
        assert "EVERGREEN_KUBEFLOW_COOKIE" in str(error)
    assert seconds < 2
    assert Client.connect(CLUSTER, "tiny", server.url, token="secret").upload(package(tmp_path, "tiny"), "v1")


def test_a_failing_server_is_quoted_in_one_line(server: ApiServer, client: Client, version: Version) -> None:
    server.fault = lambda method, path: Refused(500, "InternalServerError:\n  the database is gone")
    with pytest.raises(ClusterError, match=r"answered 500: InternalServerError: the database is gone$"):
        client.submit(version, {}, "one")


def test_a_gateways_page_is_no_message(server: ApiServer, client: Client) -> None:
    server.fault = lambda method, path: Refused(503, "<html>no healthy upstream</html>", is_page=True)
    with pytest.raises(ClusterError, match=r"answered 503: Service Unavailable$"):
        client.run("r1")


def test_a_page_instead_of_a_run_is_no_unknown_run(server: ApiServer, client: Client) -> None:
    server.fault = lambda method, path: Refused(404, "<html>nginx</html>", is_page=True)
    with pytest.raises(ClusterError, match="answers, but not as the API"):
        client.run("r1")
