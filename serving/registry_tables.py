"""The three tables of the registry; serving/registry_database.py opens a database for them."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
STATES = ("pushing", "live", "retired", "quarantined", "removed")  # of a version
KNOWN_STATE = "known_state"

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
    sa.CheckConstraint(f"state IN {STATES}", name=KNOWN_STATE),
)

# One live version is a law of the store, not only of the code that writes it.
sa.Index(
    "one_live_version",
    VERSIONS.c.state,
    unique=True,
    sqlite_where=VERSIONS.c.state == "live",
    postgresql_where=VERSIONS.c.state == "live",
)

# One row, for good: which registry this is. Two that are both empty are not the same.
IDENTITY = sa.Table("identity", METADATA, sa.Column("id", sa.String(32), primary_key=True))

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
