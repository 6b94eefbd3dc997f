"""The embedded model server: TensorFlow Serving's API, with the ScaNN ops that the stock one lacks.

    python -m serving.server --model-base-path .evergreen/movielens/serving/recommender
    python -m serving.server --model-config-file model.config

From Python, with free ports:

    server = start(ServerConfig(model_base_path, port=0, rest_api_port=0))
    server.wait_until_ready(60)
    ...
    server.stop()

One thread runs the event loop of both protocols, `num_batch_threads` call the models, one for each model watches its
versions. Each version is a process of its own (serving/model_process.py).
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.errors import ServingError, StartFailed
from serving.limits import BatchingConfig, Limits
from serving.tls import Tls, tls_of

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.001  # of Python's threads: with its 5 ms, models that are done wait for the protocols (-30% q/s)

if TYPE_CHECKING:  # TensorFlow takes seconds to import: only a server that starts pays for it
    from serving.batching import Batcher
    from serving.endpoints import Endpoints
    from serving.model_config import ModelSettings
    from serving.models import Models


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How to serve: one model by its base path, or those of a model.config file. A port of 0 takes a free one.

    model_config_poll_seconds  how often to look whether the file changed; 0: never
    intra_op_threads, …        threads within a call of a model: more help where a call is long (a large catalog, exact)
                               and requests are few
    """

    model_base_path: str | Path | None = None
    model_name: str = "recommender"
    model_config_file: str | Path | None = None
    model_config_poll_seconds: float = 0.0
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    poll_seconds: float = 1.0
    grace_seconds: int = 5
    limits: Limits = field(default_factory=Limits)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    tls: Tls | None = None
    intra_op_threads: int = 1
    inter_op_threads: int = 1

    def __post_init__(self) -> None:
        if self.poll_seconds <= 0:
            raise StartFailed(f"poll_seconds must be greater than 0, got {self.poll_seconds}")
        if (self.model_base_path is None) == (self.model_config_file is None):
            raise StartFailed("name either a model_base_path or a model_config_file, and not both")
        self.models()

    def models(self) -> tuple[ModelSettings, ...]:
        """The models to serve, read anew. Raises StartFailed."""
        from serving.model_config import ModelSettings, read_model_config

        if self.model_config_file is not None:
            return read_model_config(Path(self.model_config_file))
        return (ModelSettings(self.model_name, Path(self.model_base_path or "")),)


@dataclass(frozen=True)
class RunningServer:
    """A started server; `stop` it when done."""

    config: ServerConfig
    port: int
    rest_api_port: int
    models: Models
    batcher: Batcher
    _endpoints: Endpoints

    def wait_until_ready(self, timeout_seconds: float | None = None, version: int | None = None) -> int:
        """Waits for a version of every model, or that one, to be in service; returns that of the first.

        Raises ServingError when none comes.
        """
        served = [watcher.wait_until_available(timeout_seconds, version) for watcher in self.models.watchers]
        for watcher, found in zip(self.models.watchers, served, strict=True):
            if found is None:
                said = "; ".join(status.error for status in watcher.statuses() if status.error)
                wanted = "no version" if version is None else f"version {version} not"
                raise ServingError(
                    f"{wanted} of {watcher.settings.name} in service"
                    + (f": {said}" if said else f"; {watcher.settings.base_path} is watched")
                )
        return served[0] or 0

    def stop(self) -> None:
        """Refuses new calls, answers those under way, ends."""
        self._endpoints.stop()
        self.models.stop()
        self.batcher.close()
        self.models.retire_all()

    def __str__(self) -> str:
        host, scheme = self.config.host, "https" if self.config.tls else "http"
        return f"gRPC {host}:{self.port} · REST {scheme}://{host}:{self.rest_api_port}"


def start(config: ServerConfig) -> RunningServer:
    """Opens both ports and begins to load; calls are answered as soon as a version is ready.

    Raises:
        StartFailed: a port is in use.
    """
    from serving.batching import Batcher
    from serving.data_plane import DataPlane
    from serving.endpoints import Endpoints
    from serving.metrics import Metrics
    from serving.model_process import load_apart
    from serving.models import Models

    load = partial(
        load_apart,
        calls=config.batching.num_batch_threads,
        intra_op_threads=config.intra_op_threads,
        inter_op_threads=config.inter_op_threads,
    )
    models = Models(config.models(), load, config.poll_seconds)
    metrics = Metrics(models)
    batcher = Batcher(config.batching, metrics.observe_batch)
    try:
        endpoints = Endpoints(DataPlane(models, batcher), metrics, config)
    except StartFailed:
        batcher.close()
        raise
    models.start()
    if config.model_config_file and config.model_config_poll_seconds:
        threading.Thread(target=_follow, args=(config, models), name="model.config", daemon=True).start()
    return RunningServer(config, endpoints.port, endpoints.rest_api_port, models, batcher, endpoints)


def run_server(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT; says in one line when it is ready. Call it from the main thread."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    _own_the_process()
    server = start(config)
    names = ", ".join(server.models.names)
    asked_to_stop.wait(config.poll_seconds)
    if not any(watcher.statuses() for watcher in server.models.watchers):
        folders = ", ".join(str(watcher.settings.base_path) for watcher in server.models.watchers)
        click.echo(f"waiting for the first version of {names} in {folders} · {server}")
    while not asked_to_stop.wait(0.1):
        if all(server.models.readiness().values()):
            served = [f"{w.settings.name} version {w.wait_until_available(0)}" for w in server.models.watchers]
            click.echo(f"serving {', '.join(served)} · {server}")
            asked_to_stop.wait()
    server.stop()
    click.echo(f"stopped serving {names}")


def _own_the_process() -> None:
    """What holds for the whole process: turns of Python's threads, what is never garbage."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # of the processes of the versions
    import serving.endpoints
    import serving.model_process  # noqa: F401  (with all that they import)

    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # a million objects of imported modules: to look through them would stop all calls for .3 s


def _follow(config: ServerConfig, models: Models) -> None:
    """Serves what the model.config file says whenever it changes."""
    from serving.models import RELOAD_SECONDS

    path = Path(config.model_config_file or "")
    seen = path.stat().st_mtime_ns
    while True:
        time.sleep(config.model_config_poll_seconds)
        try:
            now = path.stat().st_mtime_ns
            if now != seen:
                seen = now
                models.reload(config.models(), RELOAD_SECONDS)
        except (OSError, ServingError) as error:
            log.error("%s is not followed: %s", path, error)


@click.command()
@click.option("--model-base-path", type=click.Path(path_type=Path), help="Folder of the versions of one model.")
@click.option("--model-name", default="recommender", show_default=True)
@click.option("--model-config-file", type=click.Path(path_type=Path), help="Several models: TF Serving's model.config.")
@click.option("--model-config-file-poll-wait-seconds", default=0.0, show_default=True, help="0: read once.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8500, show_default=True, help="gRPC; 0 takes a free one.")
@click.option("--rest-api-port", default=8501, show_default=True, help="REST; 0 takes a free one.")
@click.option("--poll-seconds", default=1.0, show_default=True, help="How often to look for versions.")
@click.option("--max-batch-size", default=BatchingConfig.max_batch_size, show_default=True, help="Rows of one call.")
@click.option("--batch-timeout-micros", default=BatchingConfig.batch_timeout_micros, show_default=True)
@click.option("--max-waiting-rows", default=BatchingConfig.max_waiting_rows, show_default=True, help="More get a 429.")
@click.option("--num-batch-threads", type=int, help="Calls of models at the same time.  [default: cores - 1]")
@click.option("--tensorflow-intra-op-parallelism", default=1, show_default=True, help="Threads within an operation.")
@click.option("--tensorflow-inter-op-parallelism", default=1, show_default=True, help="Operations at the same time.")
@click.option("--max-message-bytes", default=Limits.max_message_bytes, show_default=True)
@click.option("--max-connections", default=Limits.max_connections, show_default=True)
@click.option("--request-timeout-seconds", default=Limits.request_timeout_seconds, show_default=True)
@click.option(
    "--ssl-certificate", type=click.Path(path_type=Path), help="PEM; with --ssl-key, both ports are encrypted."
)
@click.option("--ssl-key", type=click.Path(path_type=Path))
@click.option("--ssl-client-ca", type=click.Path(path_type=Path), help="Clients must show a certificate of this CA.")
def main(
    model_base_path: Path | None,
    model_name: str,
    model_config_file: Path | None,
    model_config_file_poll_wait_seconds: float,
    host: str,
    port: int,
    rest_api_port: int,
    poll_seconds: float,
    max_batch_size: int,
    batch_timeout_micros: int,
    max_waiting_rows: int,
    num_batch_threads: int | None,
    tensorflow_intra_op_parallelism: int,
    tensorflow_inter_op_parallelism: int,
    max_message_bytes: int,
    max_connections: int,
    request_timeout_seconds: float,
    ssl_certificate: Path | None,
    ssl_key: Path | None,
    ssl_client_ca: Path | None,
) -> None:
    """Serves models by TensorFlow Serving's gRPC and REST APIs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore", FutureWarning)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("serving").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # a line for each connection that speaks no HTTP
    try:
        config = ServerConfig(
            model_base_path=model_base_path,
            model_name=model_name,
            model_config_file=model_config_file,
            model_config_poll_seconds=model_config_file_poll_wait_seconds,
            host=host,
            port=port,
            rest_api_port=rest_api_port,
            poll_seconds=poll_seconds,
            batching=BatchingConfig(
                max_batch_size=max_batch_size,
                batch_timeout_micros=batch_timeout_micros,
                max_waiting_rows=max_waiting_rows,
                **({"num_batch_threads": num_batch_threads} if num_batch_threads else {}),
            ),
            limits=Limits(
                max_message_bytes=max_message_bytes,
                max_connections=max_connections,
                request_timeout_seconds=request_timeout_seconds,
            ),
            tls=tls_of(ssl_certificate, ssl_key, ssl_client_ca),
            intra_op_threads=tensorflow_intra_op_parallelism,
            inter_op_threads=tensorflow_inter_op_parallelism,
        )
        run_server(config)
    except ServingError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
