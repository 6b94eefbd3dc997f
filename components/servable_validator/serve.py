"""A model server in a process of its own, over one servable, for as long as a `with` block lasts.

with serve(Path(model_uri), timeout_seconds=120) as client:
    client.predict("serving_default", {"user_id": ["42"]})
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import serving
from components.errors import ServableError
from serving.client import Client
from serving.errors import RequestFailed

HOST = "127.0.0.1"
LAST_LINES = 12
STOP_SECONDS = 15
POLL_SECONDS = 0.1


@contextmanager
def serve(servable: Path, timeout_seconds: float) -> Iterator[Client]:
    """Starts the server with the servable as version 1, waits until it is served, and ends it afterwards.

    Raises ServableError with the last lines of the server's log when it does not come up in time.
    """
    with tempfile.TemporaryDirectory(prefix="evergreen-probe-") as folder:
        base_path, log_path = Path(folder) / "base", Path(folder) / "server.log"
        base_path.mkdir()
        (base_path / "1").symlink_to(servable.absolute(), target_is_directory=True)
        grpc_port, rest_port = _free_ports()
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                _command(base_path, grpc_port, rest_port), stdout=log, stderr=log, env=_environment()
            )
        try:
            with Client(HOST, grpc_port, rest_port, deadline_seconds=timeout_seconds) as client:
                _wait(client, process, log_path, timeout_seconds)
                yield client
        finally:
            _end(process)


def _command(base_path: Path, grpc_port: int, rest_port: int) -> list[str]:
    options = {"--model-base-path": base_path, "--host": HOST, "--port": grpc_port, "--rest-api-port": rest_port}
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "serving.server", *words]


def _environment() -> dict[str, str]:
    """Ours, and `serving` found where we found it: the working directory need not be the project."""
    root = str(Path(next(iter(serving.__path__))).parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((HOST, 0))
        other.bind((HOST, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait(client: Client, process: subprocess.Popen[bytes], log_path: Path, timeout_seconds: float) -> None:
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServableError(f"the model server ended with code {process.returncode}{_last_lines(log_path)}")
        state = _state(client)
        if state == "AVAILABLE":
            return
        if state == "END":
            raise ServableError(f"the model server cannot serve the model{_last_lines(log_path)}")
        time.sleep(POLL_SECONDS)
    raise ServableError(
        f"the model server did not serve the model within {timeout_seconds:g} s (load_timeout_seconds)"
        f"{_last_lines(log_path)}"
    )


def _state(client: Client) -> str | None:
    try:
        return client.versions().get(1)
    except RequestFailed:  # it does not listen yet, or has not looked at the folder yet
        return None


def _last_lines(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "; its log ends:\n" + "\n".join(lines) if lines else "; its log is empty"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
