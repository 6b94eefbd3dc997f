"""A real PostgreSQL server for tests, on a free port of this machine, out of the wheel `pgserver`.

Its superuser only makes databases. Each test gets one of its own, that an ordinary role owns, as on a cluster.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2

ROLE = "evergreen"
PASSWORD = "hunter2/@:"  # as awkward in a URL as a generated one may be
QUOTED = "hunter2%2F%40%3A"
START_SECONDS = 30
# Nothing here outlives the test session, so nothing needs to reach the disk.
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "16MB"}


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `database()` makes an empty database and returns its URL."""

    port: int
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def database(self, settings: str = "") -> str:
        """An empty database owned by the role that the URL names; `settings` as `ALTER DATABASE … SET` takes one."""
        name = f"evergreen_{next(self.numbers)}"
        self.admin(f"CREATE DATABASE {name} OWNER {ROLE}")
        if settings:
            self.admin(f"ALTER DATABASE {name} SET {settings}")
        return f"postgresql+psycopg2://{ROLE}:{QUOTED}@127.0.0.1:{self.port}/{name}"

    def admin(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs one statement as the superuser, and returns its rows."""
        with closing(psycopg2.connect(self.dsn())) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def cut_connections(self, url: str) -> None:
        """Ends every connection to a database, as a restart of the server does."""
        name = url.rpartition("/")[2]
        self.admin(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")

    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres password={PASSWORD} dbname=postgres connect_timeout=5"


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Starts a server in a new folder of the system's temporary one, and stops and removes it."""
    root = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    try:
        (root / "password").write_text(PASSWORD)
        binaries, identity = _programs(root)
        made = [binaries / "initdb", "--pgdata", root / "data", "--username=postgres", "--auth=scram-sha-256"]
        made += [f"--pwfile={root / 'password'}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(made, check=True, cwd=root, stdout=subprocess.DEVNULL, **identity)
        port = _free_port()
        command = [binaries / "postgres", "-D", root / "data", "-p", str(port)]
        command += [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with open(root / "log", "wb") as log:
            process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, **identity)
        try:
            server = PostgresServer(port)
            _wait(server, process, root / "log")
            server.admin(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # its immediate shutdown: what is thrown away need not be written first
            process.wait(START_SECONDS)
    finally:
        shutil.rmtree(root)


def _programs(root: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the wheel's programs, and as whom to run them: subprocess's arguments.

    PostgreSQL refuses to run as root. Root runs a copy of it as `nobody`, who could not look into root's environment.
    """
    wheel = importlib.util.find_spec("pgserver")
    assert wheel is not None, "the tests need the wheel pgserver, which requirements.lock holds: run make setup"
    [place] = map(Path, wheel.submodule_search_locations or [])
    if os.geteuid() != 0:
        return place / "pginstall" / "bin", {}
    for part in ("bin", "lib", "share"):
        shutil.copytree(place / "pginstall" / part, root / "wheel/pgserver/pginstall" / part)
    shutil.copytree(place.parent / "pgserver.libs", root / "wheel/pgserver.libs")  # the programs look for it up there
    nobody = pwd.getpwnam("nobody")
    for path in (root, *root.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return root / "wheel/pgserver/pginstall/bin", identity


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _wait(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.admin("SELECT 1")
            return
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {error}\n{log.read_text()}") from error
            time.sleep(0.05)
