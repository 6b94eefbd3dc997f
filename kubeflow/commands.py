"""`evergreen kubeflow`: compile the pipeline, run it on a cluster, put it on the clock, look at its runs."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evergreen_kubeflow.cron import check_cron
from evergreen_kubeflow.errors import ClusterError
from evergreen_kubeflow.package import read_package
from pipeline.console import table

if TYPE_CHECKING:
    from evergreen_kubeflow.client import Client, Version
    from pipeline.config import PipelineConfig

TOKEN_VARIABLE, COOKIE_VARIABLE = "EVERGREEN_KUBEFLOW_TOKEN", "EVERGREEN_KUBEFLOW_COOKIE"
SHOWN_RUNS = 20

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file."
)
host_option = click.option("--host", help="The pipeline API; by default the configuration's kubeflow.host.")
package_option = click.option(
    "--package", type=click.Path(path_type=Path), help="A package of `compile`; without it one is compiled now."
)


@click.group()
def kubeflow() -> None:
    """The pipeline on Kubeflow Pipelines."""


@kubeflow.command("compile")
@config_option
@click.option("--output", type=click.Path(path_type=Path), default="package.yaml", show_default=True)
def compile_(config_path: Path, output: Path) -> None:
    """Write the package that Kubeflow Pipelines runs."""
    config = _config(config_path)
    written = _compile(config, output)
    click.echo(f"wrote {written}: pipeline {config.name}, version {read_package(written, config.name)}")


@kubeflow.command()
@config_option
@package_option
@click.option("--span", type=int, help="The newest span to read; by default the newest that has files.")
@click.option("--window", "window_spans", type=int, help="How many spans; by default as the package was compiled.")
@click.option("--cause", help="Why it runs, kept among the run's parameters.")
@click.option("--data-root", help="Reads the data from here instead of kubeflow.data_root.")
@click.option("--serving-path", help="Pushes models here instead of kubeflow.serving_path.")
@click.option("--releases-path", help="Keeps releases here instead of kubeflow.releases_path.")
@host_option
@click.option("--wait", is_flag=True, help="Tells of every task as it ends; exit code 1 when the run fails.")
@click.option("--poll-seconds", type=click.FloatRange(min=0.01), default=5.0, show_default=True)
def submit(
    config_path: Path, package: Path | None, host: str | None, wait: bool, poll_seconds: float, **given: Any
) -> None:
    """Upload the pipeline and run it once.

    The link that is printed opens when the host also serves the UI (svc/ml-pipeline-ui does);
    else name the UI's address in KF_PIPELINES_UI_ENDPOINT.
    """
    config = _config(config_path)
    parameters = {name: value for name, value in given.items() if value is not None}
    for name, option, least in (("span", "--span", 0), ("window_spans", "--window", 1)):
        if parameters.get(name, least) < least:
            raise ClusterError(f"{option} {parameters[name]}: expected {least} or more; leave it out for the default")
    client, version = _upload(config, package, host)
    run_name = f"{config.name} {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}"
    run_id = client.submit(version, parameters, run_name)
    click.echo(f"run {run_id}: {client.link(run_id)}")
    if wait:
        from evergreen_kubeflow.progress import follow

        follow(client, run_id, config.name, poll_seconds)


@kubeflow.command()
@config_option
@package_option
@click.option("--cron", help="Six fields, seconds first; by default the configuration's kubeflow.schedule.")
@click.option("--off", is_flag=True, help="Takes it off the clock.")
@host_option
def schedule(config_path: Path, package: Path | None, cron: str | None, off: bool, host: str | None) -> None:
    """Upload the pipeline and run it by the clock, one run at a time; replaces the schedule there was."""
    config = _config(config_path)
    if off:
        gone = _connect(config, host).unschedule()
        click.echo(f"{config.name} is off the clock" if gone else f"{config.name} was not on the clock")
        return
    checked = check_cron(cron or config.kubeflow.schedule)
    client, version = _upload(config, package, host)
    replaced = client.schedule(version, {"cause": "schedule [[ScheduledTime]]"}, checked)  # the server fills it in
    click.echo(f"{config.name} runs at {checked!r}" + (", instead of the schedule it had" if replaced else ""))


@kubeflow.command()
@config_option
@click.argument("run_id", required=False)
@host_option
def status(config_path: Path, run_id: str | None, host: str | None) -> None:
    """The newest runs, or the tasks of one."""
    config = _config(config_path)
    client = _connect(config, host)
    from evergreen_kubeflow.progress import duration, reason, tasks_of

    if run_id is None:
        runs = client.runs(SHOWN_RUNS)
        if not runs:
            click.echo(f"no run of {config.name} yet; start one: evergreen kubeflow submit --config {config_path}")
            return
        rows = [(run.run_id, run.state or "–", f"{run.created_at:%Y-%m-%d %H:%M}", duration(run)) for run in runs]
        table(("run", "state", "started (UTC)", "time"), rows)
        return
    run = client.run(run_id)
    click.echo(f"{run.display_name}: {run.state or 'not started'}, {duration(run)}; {client.link(run_id)}")
    if tasks := tasks_of(run, config.name):
        rows = [(task.display_name, task.state or "–", duration(task), reason(task)) for task in tasks]
        table(("task", "state", "time", "error"), rows)
    else:
        click.echo("the server tells of no tasks yet")


def _config(path: Path) -> PipelineConfig:
    from pipeline.config import read_config

    return read_config(path)


def _compile(config: PipelineConfig, output: Path) -> Path:
    from evergreen_kubeflow.runner import compile_package

    return compile_package(config, output)


def _connect(config: PipelineConfig, host: str | None) -> Client:
    from evergreen_kubeflow.client import Client

    token, cookie = os.environ.get(TOKEN_VARIABLE), os.environ.get(COOKIE_VARIABLE)
    return Client.connect(config.kubeflow, config.name, host, token=token, cookie=cookie)


def _upload(config: PipelineConfig, package: Path | None, host: str | None) -> tuple[Client, Version]:
    """Connects, compiles when there is no package, uploads, and says what came of it."""
    name = read_package(package, config.name) if package else None
    client = _connect(config, host)  # before it compiles: that takes longer
    with tempfile.TemporaryDirectory() as folder:
        path = package or _compile(config, Path(folder) / "package.yaml")
        version = client.upload(path, name or read_package(path, config.name))
    told = {
        "created": f"pipeline {config.name} is new; uploaded version {version.name}",
        "added": f"pipeline {config.name} exists; uploaded new version {version.name}",
        "reused": f"pipeline {config.name} exists with version {version.name} of this very package; it is reused",
    }
    click.echo(told[version.how])
    return client, version
