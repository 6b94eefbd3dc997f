"""`evergreen kubeflow` as a person runs it, against the API in memory of api_server.py."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from components.errors import RunFailed
from evergreen_kubeflow.commands import kubeflow
from evergreen_kubeflow.cron import check_cron
from evergreen_kubeflow.errors import ClusterError
from evergreen_kubeflow.package import read_package
from tests.kubeflow.api_server import ApiServer, package, task

EVERGREEN = Path(sys.executable).with_name("evergreen")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of pipeline `tiny` whose host is a port where nobody listens."""
    path = tmp_path / "config.yaml"
    cluster = {"host": "http://127.0.0.1:1", "schedule": "0 15 4 * * *"}
    tree = {"name": "tiny", "contract": {"interactions": {"types": {"view": 1.0}}}, "kubeflow": cluster}
    path.write_text(json.dumps(tree))  # JSON is YAML
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return package(tmp_path, "tiny")


def run(command: str, config: Path, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(kubeflow, [command, "--config", str(config), *map(str, arguments)])


def said(done: Result) -> list[str]:
    """The lines of a command that went well."""
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output.splitlines()


def refused(done: Result, error: type[Exception] = ClusterError) -> str:
    """The message that `evergreen` prints as one line."""
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, error), done.exc_info
    message = str(done.exception)
    assert "\n" not in message
    return message


def cells(lines: list[str]) -> list[list[str]]:
    """The rows of a table below its rule."""
    rule = next(place for place, line in enumerate(lines) if "──" in line)
    return [re.split(r" {2,}", line.strip()) for line in lines[rule + 1 :] if line.strip()]


def test_submit_uploads_and_runs_once(server: ApiServer, config: Path, tiny: Path) -> None:
    uploaded, started = said(run("submit", config, "--package", tiny, "--host", server.url))
    version = read_package(tiny, "tiny")
    assert uploaded == f"pipeline tiny is new; uploaded version {version}"
    (there,) = server.runs
    assert started == f"run {there['run_id']}: {server.url}/#/runs/details/{there['run_id']}"
    assert there["runtime_config"].get("parameters", {}) == {}  # none was given: the package's hold
    assert there["display_name"].startswith("tiny ")
    assert [v["display_name"] for v in server.versions] == [version]


def test_submit_sends_what_was_given(server: ApiServer, config: Path, tiny: Path) -> None:
    given = ("--span", 0, "--window", 2, "--cause", "a try", "--data-root", "/d", "--serving-path", "/s/m")
    said(run("submit", config, "--package", tiny, "--host", server.url, *given, "--releases-path", "/s/r"))
    assert server.runs[0]["runtime_config"]["parameters"] == {
        "span": 0,
        "window_spans": 2,
        "cause": "a try",
        "data_root": "/d",
        "serving_path": "/s/m",
        "releases_path": "/s/r",
    }


def test_submit_says_whether_the_version_is_new_or_reused(server: ApiServer, config: Path, tmp_path: Path) -> None:
    same = package(tmp_path, "tiny"), package(tmp_path, "tiny")
    changed = package(tmp_path, "tiny", sdkVersion="tfx-1.17.0")
    one, again, other = (said(run("submit", config, "--package", p, "--host", server.url))[0] for p in (*same, changed))
    assert "is new" in one
    assert (
        again == f"pipeline tiny exists with version {read_package(same[0], 'tiny')} of this very package; it is reused"
    )
    assert other == f"pipeline tiny exists; uploaded new version {read_package(changed, 'tiny')}"
    assert len(server.versions) == 2


def test_waiting_tells_of_every_task_once_as_it_ends(server: ApiServer, config: Path, tiny: Path) -> None:
    plumbing = [task("tiny-x7k2p", "FAILED", 1), task("root", "RUNNING"), task("root-driver", "SUCCEEDED", 1)]
    plumbing += [task("executor", "SUCCEEDED", 9), task("train-driver", "SUCCEEDED", 2)]
    server.progress = [
        ("RUNNING", [*plumbing, task("train", "RUNNING")]),
        ("RUNNING", [*plumbing, task("train", "SUCCEEDED", 12.34), task("judge", "RUNNING")]),
        ("SUCCEEDED", [*plumbing, task("train", "SUCCEEDED", 12.34), task("judge", "SKIPPED", 0)]),
    ]
    quick = ("--wait", "--poll-seconds", 0.01)
    lines = said(run("submit", config, "--package", tiny, "--host", server.url, *quick))
    run_id = server.runs[0]["run_id"]
    assert [line.split() for line in lines[2:]] == [
        ["✓", "train", "SUCCEEDED", "12.3", "s"],
        ["✓", "judge", "SKIPPED", "0.0", "s"],
        ["run", run_id, "SUCCEEDED", "in", "90.0", "s"],  # what the server says of every run that is over
    ]


def test_waiting_for_a_run_that_fails_ends_with_its_reason(server: ApiServer, config: Path, tiny: Path) -> None:
    tasks = [task("train", "SUCCEEDED", 12), task("judge", "FAILED", 3, "recall@10\n is NaN")]
    server.progress = [("FAILED", tasks)]
    done = run("submit", config, "--package", tiny, "--host", server.url, "--wait", "--poll-seconds", 0.01)
    run_id = server.runs[0]["run_id"]
    assert refused(done, RunFailed) == f"run {run_id} ended as FAILED; judge: recall@10 is NaN"
    assert "✗ judge" in done.output


def test_schedule_takes_the_configurations_cron_and_names_its_cause(
    server: ApiServer, config: Path, tiny: Path
) -> None:
    lines = said(run("schedule", config, "--package", tiny, "--host", server.url))
    assert lines[1] == "tiny runs at '0 15 4 * * *'"
    (there,) = server.recurring
    assert there["trigger"]["cron_schedule"]["cron"] == "0 15 4 * * *"
    assert there["runtime_config"]["parameters"] == {"cause": "schedule [[ScheduledTime]]"}
    lines = said(run("schedule", config, "--package", tiny, "--host", server.url, "--cron", " 0 0 3 * *  MON-FRI"))
    assert lines[1] == "tiny runs at '0 0 3 * * MON-FRI', instead of the schedule it had"
    assert [s["trigger"]["cron_schedule"]["cron"] for s in server.recurring] == ["0 0 3 * * MON-FRI"]
    assert server.runs == []


def test_schedule_off(server: ApiServer, config: Path, tiny: Path) -> None:
    said(run("schedule", config, "--package", tiny, "--host", server.url))
    assert said(run("schedule", config, "--off", "--host", server.url)) == ["tiny is off the clock"]
    assert server.recurring == []
    assert said(run("schedule", config, "--off", "--host", server.url)) == ["tiny was not on the clock"]


def test_status_lists_runs_the_newest_first(server: ApiServer, config: Path, tiny: Path) -> None:
    (line,) = said(run("status", config, "--host", server.url))
    assert line.startswith("no run of tiny yet; start one: evergreen kubeflow submit")
    for _ in range(2):
        run("submit", config, "--package", tiny, "--host", server.url)
    first, second = (there["run_id"] for there in server.runs)
    server.runs[0] |= {"state": "FAILED", "finished_at": "2026-03-01T03:32:30Z"}  # begun at 02:30
    rows = cells(said(run("status", config, "--host", server.url)))
    assert rows[0][:3] == [second, "PENDING", "2026-03-01 02:31"]
    assert float(rows[0][3].removesuffix(" s")) > 0  # counts on; the server says that it ended in 1970
    assert rows[1] == [first, "FAILED", "2026-03-01 02:30", "3750.0 s"]


def test_status_of_one_run_shows_its_tasks(server: ApiServer, config: Path, tiny: Path) -> None:
    run("submit", config, "--package", tiny, "--host", server.url)
    run_id = server.runs[0]["run_id"]
    assert said(run("status", config, run_id, "--host", server.url))[1] == "the server tells of no tasks yet"
    server.progress = [("FAILED", [task("train", "SUCCEEDED", 12), task("judge", "FAILED", 3, "no\nrecall")])]
    lines = said(run("status", config, run_id, "--host", server.url))
    assert lines[0].startswith("tiny ")
    assert lines[0].endswith(f": FAILED, 90.0 s; {server.url}/#/runs/details/{run_id}")
    assert sorted(cells(lines)) == [["judge", "FAILED", "3.0 s", "no recall"], ["train", "SUCCEEDED", "12.0 s"]]


def test_an_unknown_run_is_named(server: ApiServer, config: Path) -> None:
    assert "no run 'r7'" in refused(run("status", config, "r7", "--host", server.url))


@pytest.mark.parametrize("command", ["submit", "schedule", "status"])
def test_without_a_server_the_port_forward_is_named(config: Path, tiny: Path, command: str) -> None:
    arguments = () if command == "status" else ("--package", tiny)
    message = refused(run(command, config, *arguments))
    assert "no answer from http://127.0.0.1:1 " in message  # the configuration's host
    assert "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888" in message


def test_the_token_comes_from_the_environment(server: ApiServer, config: Path, monkeypatch: Any) -> None:
    server.token = "secret"
    assert "set EVERGREEN_KUBEFLOW_TOKEN" in refused(run("status", config, "--host", server.url))
    monkeypatch.setenv("EVERGREEN_KUBEFLOW_TOKEN", "secret")
    said(run("status", config, "--host", server.url))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--span", "-1"), "--span -1: expected 0 or more; leave it out for the default"),
        (("--window", "0"), "--window 0: expected 1 or more; leave it out for the default"),
    ],
)
def test_a_span_that_cannot_be_is_refused(
    server: ApiServer, config: Path, tiny: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert refused(run("submit", config, "--package", tiny, "--host", server.url, *arguments)) == message
    assert server.requests == []


@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_packages_that_cannot_be_submitted(server: ApiServer, config: Path, tmp_path: Path, command: str) -> None:
    old = package(tmp_path, "tiny", schemaVersion="2.0.0")
    other = package(tmp_path, "other")
    text = tmp_path / "text.yaml"
    text.write_text("a: [")
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"pipelineSpec": {"pipelineInfo": {"name": "tiny"}}}))
    for path, expected in (
        (tmp_path / "none.yaml", f"no package at {tmp_path}/none.yaml; make one: evergreen kubeflow compile"),
        (old, "is no package: got schemaVersion '2.0.0', pipelineInfo.name 'tiny'"),
        (other, "is of pipeline 'other', the configuration of 'tiny'"),
        (text, "is not YAML"),
        (job, "is no package: got schemaVersion None, pipelineInfo.name None"),
    ):
        assert expected in refused(run(command, config, "--package", path, "--host", server.url))
    assert server.requests == []


def test_a_name_that_kubeflow_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="takes no name like 'my_films'; use a-z, 0-9 and -"):
        read_package(package(tmp_path, "my_films"), "my_films")


def test_a_packages_version_is_what_it_says_and_not_how_it_is_written(tiny: Path, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(tiny.read_text()))
    turned = tmp_path / "turned.yaml"
    turned.write_text(yaml.safe_dump_all([dict(reversed(d.items())) for d in documents], sort_keys=False))
    assert turned.read_text() != tiny.read_text()
    assert read_package(turned, "tiny") == read_package(tiny, "tiny")
    mounts = tmp_path / "mounts.yaml"  # where volumes are mounted is part of it
    mounts.write_text(yaml.safe_dump_all([documents[0], {"platforms": {}}]))
    assert read_package(mounts, "tiny") != read_package(tiny, "tiny")


@pytest.mark.parametrize(
    "cron",
    ["0 30 2 * * *", "*/15 * * * * ?", "0 0 9-17/2,20 1,15 JAN-MAR *", "59 59 23 31 12 6", "0 0 3 ? * mon-fri"],
)
def test_crons_that_kubeflow_takes(cron: str) -> None:
    assert check_cron(cron) == cron


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("30 2 * * *", "has 5 fields; Kubeflow wants six, seconds first: write '0 30 2 * * *'"),
        ("daily", "has 1 fields; Kubeflow wants six, seconds first: such as '0 30 2 * * *'"),
        ("0 0 0 2 * * *", "has 7 fields"),
        ("60 0 2 * * *", "the second is '60'; expected 0-59, *"),
        ("0 0 24 * * *", "the hour is '24'; expected 0-23, *"),
        ("0 0 2 0 * *", "the day of the month is '0'; expected 1-31, *"),
        ("0 0 2 * JUNE *", "the month is 'JUNE'; expected 1-12 or JAN-DEC, *"),
        ("0 0 2 * * 7", "the day of the week is '7'; expected 0-6 or SUN-SAT, *"),
        ("0 0 5-2 * * *", "the hour is '5-2'"),
        ("0 */0 * * * *", "the minute is '*/0'"),
        ("0 0 2, * * *", "the hour is '2,'"),
        ("0 0 -2 * * *", "the hour is '-2'"),
    ],
)
def test_crons_that_kubeflow_takes_for_something_else_or_not_at_all(cron: str, message: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(message)):
        check_cron(cron)


def test_a_wrong_cron_is_refused_before_anything_is_uploaded(server: ApiServer, config: Path, tiny: Path) -> None:
    done = run("schedule", config, "--package", tiny, "--host", server.url, "--cron", "30 2 * * *")
    assert "write '0 30 2 * * *'" in refused(done)
    assert server.requests == []


def test_help_is_quick_and_loads_neither_tfx_nor_kfp() -> None:
    heavy = ("tfx", "kfp", "tensorflow", "kfp_server_api", "kubernetes")
    program = f"import sys\nfrom evergreen_kubeflow.commands import kubeflow\nkubeflow(['--help'], standalone_mode=False)\nprint([name for name in {heavy} if name in sys.modules])"  # fmt: skip # noqa: E501
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert time.perf_counter() - started < 3  # 0.2 s on an idle machine
    for command in ("compile", "submit", "schedule", "status"):
        assert f"\n  {command} " in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_error_is_one_line_of_the_evergreen_command(config: Path, tiny: Path, tmp_path: Path) -> None:
    command = [EVERGREEN, "kubeflow", "submit", "--config", config, "--package", tiny]
    environment = os.environ | {"EVERGREEN_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no answer from http://127.0.0.1:1 ")


@pytest.mark.slow
def test_what_compile_writes_is_what_submit_uploads(server: ApiServer, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "package.yaml"
    (line,) = said(run("compile", config, "--output", output))
    version = read_package(output, "tiny")
    assert line == f"wrote {output}: pipeline tiny, version {version}"
    first, _ = said(run("submit", config, "--host", server.url, "--span", 3))  # compiles again; the server parses it
    assert first == f"pipeline tiny is new; uploaded version {version}"
    second, _ = said(run("submit", config, "--host", server.url, "--package", output))
    assert second.endswith("it is reused")
