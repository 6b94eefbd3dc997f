"""The three tables of the registry, and how a database is opened for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

BUSY_TIMEOUT_SECONDS = 30

METADATA = sa.MetaData()

VERSIONS = sa.Table(
    "versions",
    METADATA,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("verdict", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.CheckConstraint("state IN ('pushing', 'live', 'retired', 'withdrawn')", name="known_state"),
)

# One live version is a law of the store, not only of the code that writes it.
sa.Index(
    "one_live_version",
    VERSIONS.c.state,
    unique=True,
    sqlite_where=VERSIONS.c.state == "live",
    postgresql_where=VERSIONS.c.state == "live",
)

SPANS = sa.Table(
    "spans",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("span", sa.BigInteger, nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("verdict", sa.JSON, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.Float, nullable=False),
)

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("from_version", sa.BigInteger),
    sa.Column("to_version", sa.BigInteger),
)


def connect(url: str) -> sa.Engine:
    """Opens a database and creates missing tables; a SQLite file gets its folder, WAL and patience."""
    target = sa.make_url(url)
    if target.get_backend_name() != "sqlite":
        engine = sa.create_engine(target)
    else:
        if target.database:
            Path(target.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(target, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    # Under the write lock: two processes that find an empty database must not both create the tables.
    with engine.execution_options(takes_write_lock=True).begin() as tx:
        METADATA.create_all(tx)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # pysqlite must not begin transactions by itself: it would do so late, after the reads that decide a write
    # (docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable).
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    lock = connection.get_execution_options().get("takes_write_lock", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if lock else "BEGIN")
