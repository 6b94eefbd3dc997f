"""The embedded model server: TensorFlow Serving's API, with the ScaNN ops that the stock one lacks.

    python -m serving.server --model-base-path .evergreen/movielens/serving/recommender

From Python, with free ports:

    server = start(ServerConfig(model_base_path, port=0, rest_api_port=0))
    server.wait_until_ready(60)
    ...
    server.stop()
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.errors import ServingError, StartFailed

if TYPE_CHECKING:  # TensorFlow takes seconds to import: only a server that starts pays for it
    import grpc

    from serving.rest_api import RestServer
    from serving.watcher import Watcher


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How to serve one model; a port of 0 takes a free one."""

    model_base_path: str | Path
    model_name: str = "recommender"
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    poll_seconds: float = 1.0
    grpc_workers: int = 16
    max_message_bytes: int = 64 * 2**20
    grace_seconds: int = 5

    def __post_init__(self) -> None:
        if self.poll_seconds <= 0:
            raise StartFailed(f"poll_seconds must be greater than 0, got {self.poll_seconds}")
        if not self.model_name or any(mark in self.model_name for mark in "/:"):
            raise StartFailed(f"a model name cannot be empty or contain '/' or ':', got {self.model_name!r}")
        if Path(self.model_base_path).is_file():
            raise StartFailed(f"{self.model_base_path} is a file; expected the folder that holds the numbered versions")


@dataclass(frozen=True)
class RunningServer:
    """A started server; `stop` it when done."""

    config: ServerConfig
    port: int
    rest_api_port: int
    watcher: Watcher
    grpc_server: grpc.Server
    rest_server: RestServer

    def wait_until_ready(self, timeout_seconds: float | None = None, version: int | None = None) -> int:
        """Waits for a version, or that one, to be in service and returns it.

        Raises ServingError when none comes.
        """
        served = self.watcher.wait_until_available(timeout_seconds, version)
        if served is None:
            said = "; ".join(status.error for status in self.watcher.statuses() if status.error)
            wanted = "no version" if version is None else f"version {version} not"
            raise ServingError(
                f"{wanted} of {self.config.model_name} in service"
                + (f": {said}" if said else f"; {self.config.model_base_path} is watched")
            )
        return served

    def stop(self) -> None:
        """Refuses new calls, answers those under way, ends."""
        stopped = self.grpc_server.stop(self.config.grace_seconds)
        self.rest_server.stop()
        stopped.wait()
        self.watcher.stop()

    def __str__(self) -> str:
        host = self.config.host
        return f"gRPC {host}:{self.port} · REST http://{host}:{self.rest_api_port}"


def start(config: ServerConfig) -> RunningServer:
    """Opens both ports and begins to load; calls are answered as soon as a version is ready.

    Raises:
        StartFailed: a port is in use.
    """
    from serving.data_plane import DataPlane
    from serving.grpc_api import start_grpc
    from serving.model import load_model, register_scann_ops
    from serving.rest_api import start_rest
    from serving.watcher import Watcher

    register_scann_ops()
    watcher = Watcher(config.model_name, config.model_base_path, load_model, config.poll_seconds)
    plane, limit = DataPlane(watcher), config.max_message_bytes
    grpc_server, port = start_grpc(plane, config.host, config.port, config.grpc_workers, limit)
    try:
        rest_server = start_rest(plane, config.host, config.rest_api_port, limit, config.grace_seconds)
    except StartFailed:
        grpc_server.stop(None)
        raise
    watcher.start()
    return RunningServer(config, port, rest_server.port, watcher, grpc_server, rest_server)


def run_server(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT; says in one line when it is ready. Call it from the main thread."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    server = start(config)
    name, is_announced = config.model_name, False
    if server.watcher.wait_until_available(config.poll_seconds) is None and not server.watcher.statuses():
        click.echo(f"waiting for the first version of {name} in {config.model_base_path} · {server}")
    while not asked_to_stop.wait(0 if not is_announced else None):
        served = server.watcher.wait_until_available(0.2)
        if served is not None:
            click.echo(f"serving {name} version {served} · {server}")
            is_announced = True
    server.stop()
    click.echo(f"stopped serving {name}")


@click.command()
@click.option("--model-base-path", required=True, type=click.Path(path_type=Path), help="Folder of the versions.")
@click.option("--model-name", default="recommender", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8500, show_default=True, help="gRPC; 0 takes a free one.")
@click.option("--rest-api-port", default=8501, show_default=True, help="REST; 0 takes a free one.")
@click.option("--poll-seconds", default=1.0, show_default=True, help="How often to look for versions.")
def main(model_base_path: Path, model_name: str, host: str, port: int, rest_api_port: int, poll_seconds: float) -> None:
    """Serves the newest version under a base path by TensorFlow Serving's gRPC and REST APIs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore", FutureWarning)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("serving").setLevel(logging.INFO)
    try:
        config = ServerConfig(
            model_base_path=model_base_path,
            model_name=model_name,
            host=host,
            port=port,
            rest_api_port=rest_api_port,
            poll_seconds=poll_seconds,
        )
        run_server(config)
    except ServingError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
