"""How the registry's database is opened, how its writers take turns, and how its errors read.

A writer has the registry to itself from its first read to its commit: in SQLite by BEGIN IMMEDIATE, in PostgreSQL
by an advisory lock. The database lets go of either when the transaction ends or its connection breaks.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from serving.errors import RegistryError
from serving.registry_tables import KNOWN_STATE, METADATA, STATES, VERSIONS

BUSY_TIMEOUT_SECONDS = 30.0
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg2")
WRITE_LOCK = int.from_bytes(b"registry", "big")  # any 64-bit number, the same in every process

# What libpq is told unless the URL says otherwise (postgresql.org/docs/16/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
# Its own defaults wait for ever for an answer to connect, and for hours for a server whose machine is gone.
PATIENCE = {
    "application_name": "evergreen registry",
    "connect_timeout": "10",  # seconds, for each address of the host
    "keepalives_idle": "30",  # seconds
    "keepalives_interval": "10",  # seconds
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds
}

UNREADABLE = (
    "the registry's URL cannot be read; expected sqlite:///path or "
    "postgresql+psycopg2://user:password@host:5432/database; in a password, write @ as %40, / as %2F, : as %3A, "
    "? as %3F, # as %23 and % as %25"
)
_LOCK_TIMED_OUT = "55P03"


@dataclass
class Store:
    """The database behind a SQLAlchemy URL; nothing is opened or created before the first use.

    A write waits `busy_timeout_seconds` for its turn. Whatever the database says against a call is a RegistryError.
    """

    url: str = field(repr=False)  # it may hold a password
    now: Callable[[], float] = time.time
    busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS
    _engine: sa.Engine | None = field(default=None, init=False, repr=False)

    def close(self) -> None:
        """Closes the connections; the next use opens them again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def _transaction(self, write: bool = False) -> Iterator[sa.Connection]:
        try:
            if self._engine is None:
                self._engine = connect(self.url, self.busy_timeout_seconds)
            with self._engine.execution_options(takes_write_lock=write).begin() as tx:
                yield tx
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise explain(self.url, error) from error


def connect(url: str, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> sa.Engine:
    """Opens a database and creates missing tables and indexes; a SQLite file gets its folder, WAL and patience.

    Raises:
        RegistryError: the URL is no registry's, or another release made the tables, and they lack a column or a state.
    """
    target = _parse(url)
    engine = _sqlite(target, busy_timeout_seconds) if _is_sqlite(target) else _postgresql(target, busy_timeout_seconds)
    # Under the write lock: two processes that find an empty database must not both create the tables.
    with engine.execution_options(takes_write_lock=True).begin() as tx:
        METADATA.create_all(tx)
        _check_tables(tx, target)
        for table in METADATA.sorted_tables:  # create_all leaves out the indexes of a table that is there
            for index in table.indexes:
                index.create(tx, checkfirst=True)
    return engine


def explain(url: str, error: Exception) -> RegistryError:
    """What the database or its driver said, where, and what to check; never a password."""
    said = getattr(error, "orig", None) or error
    remedy = ""
    if isinstance(error, sa.exc.OperationalError) and hasattr(said, "pgcode"):
        if said.pgcode == _LOCK_TIMED_OUT:
            remedy = "; another process keeps its turn to write: pg_stat_activity lists it as 'evergreen registry'"
        elif said.pgcode is None:  # libpq's word, not the server's
            remedy = (
                "; check that the server runs and is reachable from here, and the URL's user, password and database"
            )
    reason = " ".join(str(said).split()).rstrip(".")  # libpq breaks its lines for a terminal
    return RegistryError(f"the registry {_name(_parse(url))} cannot be used: {reason}{remedy}")


def _parse(url: str) -> sa.URL:
    try:
        target = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise RegistryError(UNREADABLE) from None  # ValueError quotes the port, where a password with a / ends up
    if "@" in (target.host or ""):  # the end of a password with an @
        raise RegistryError(UNREADABLE)
    if target.drivername not in DRIVERS:
        raise RegistryError(f"the registry cannot be a {target.drivername} database; known: {', '.join(DRIVERS)}")
    return target


def _name(target: sa.URL) -> str:
    return target.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


def _is_sqlite(target: sa.URL) -> bool:
    return target.get_backend_name() == "sqlite"


def _sqlite(target: sa.URL, busy_timeout_seconds: float) -> sa.Engine:
    if target.database:
        Path(target.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(target, connect_args={"timeout": busy_timeout_seconds}, **_JSON)
    sa.event.listen(engine, "connect", partial(_prepare_sqlite, busy_timeout_seconds))
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(target: sa.URL, busy_timeout_seconds: float) -> sa.Engine:
    engine = sa.create_engine(
        target,
        # A push copies files for minutes between two transactions: a connection kept that long may be dead by then.
        poolclass=sa.NullPool,
        # Each statement sees what was committed before it began. A stricter level would see what was there before
        # the wait for the lock.
        isolation_level="READ COMMITTED",
        connect_args={name: value for name, value in PATIENCE.items() if name not in target.query},
        **_JSON,
    )
    sa.event.listen(engine, "begin", partial(_begin_postgresql, max(1, round(busy_timeout_seconds * 1000))))
    return engine


def _prepare_sqlite(timeout_seconds: float, connection: Any, _record: Any) -> None:
    # pysqlite must not begin transactions by itself: it would do so late, after the reads that decide a write
    # (docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable).
    connection.isolation_level = None
    # A file becomes WAL once, alone: SQLite does not wait for its turn to do that, it says that the file is locked.
    patience = stop_after_delay(timeout_seconds)
    alone = Retrying(retry=retry_if_exception(_is_locked), stop=patience, wait=wait_random(0.01, 0.1), reraise=True)
    alone(connection.execute, "PRAGMA journal_mode=WAL")


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _takes_write_lock(connection) else "BEGIN")


def _begin_postgresql(timeout_milliseconds: int, connection: sa.Connection) -> None:
    if _takes_write_lock(connection):
        # By SET and not as a connection's options, which connection poolers refuse. The second: a process that froze,
        # or whose machine is gone, must not keep the others out.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {timeout_milliseconds}")
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {timeout_milliseconds}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")


def _takes_write_lock(connection: sa.Connection) -> bool:
    return bool(connection.get_execution_options().get("takes_write_lock", False))


def _check_tables(tx: sa.Connection, target: sa.URL) -> None:
    inspector = sa.inspect(tx)
    found = inspector.get_multi_columns()
    for table in METADATA.sorted_tables:
        lacking = set(table.c.keys()) - {column["name"] for column in found[None, table.name]}
        if lacking:
            raise _of_another_release(target, f"its table {table.name} has no column {', '.join(sorted(lacking))}")
    for check in inspector.get_check_constraints(VERSIONS.name):
        unknown = [state for state in STATES if f"'{state}'" not in check["sqltext"]]
        if check["name"] == KNOWN_STATE and unknown:
            raise _of_another_release(target, f"it knows no version that is {' or '.join(unknown)}")


def _of_another_release(target: sa.URL, how: str) -> RegistryError:
    return RegistryError(
        f"the registry {_name(target)} was made by another release: {how}; use that release, or name an empty database"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _to_json(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False)


# JSON has no NaN (RFC 8259, section 6): PostgreSQL refuses it, and SQLite would hand it to readers that do.
_JSON: dict[str, Any] = {
    "json_serializer": _to_json,
    "json_deserializer": partial(json.loads, parse_constant=lambda _: None),  # written before this was a law
}
