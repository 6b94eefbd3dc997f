"""Opening a registry's database: on a server, by another release, and when it cannot be had."""

from __future__ import annotations

import re
import socket
import sqlite3
import time
import traceback
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from postgres_server import PASSWORD, QUOTED, ROLE, PostgresServer

from serving.errors import RegistryError
from serving.registry import Registry

SECRET = "hunter2"  # what can be read of any password here, quoted or not
# The server's last words, or libpq's when they are lost with the connection.
LOST = re.compile("terminating connection|server closed the connection")


def push(registry: Registry, version: int) -> None:
    registry.begin_push(version, "", {}, {}, {})
    registry.finish_push(version, "pipeline", "better")


def execute(url: str, *statements: str) -> None:
    """Runs statements past the registry, as another release would."""
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as tx:
        for statement in statements:
            tx.exec_driver_sql(statement)


def refusal(registry: Registry) -> str:
    """The message of the RegistryError of a read; nowhere in it or in its traceback is a part of the password."""
    with pytest.raises(RegistryError) as raised:
        registry.live()
    shown = "".join(traceback.format_exception(raised.value)) + repr(registry)
    assert SECRET not in shown
    return str(raised.value)


def test_the_owner_of_the_database_makes_the_tables_and_is_no_superuser(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    push(Registry(postgres_url), 10)
    with closing(psycopg2.connect(postgres_url.replace("+psycopg2", ""))) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        assert cursor.fetchall() == [("audit", ROLE), ("identity", ROLE), ("spans", ROLE), ("versions", ROLE)]
    rights = f"SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = '{ROLE}'"
    assert postgres_server.admin(rights) == [(False, False, False)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_stricter_default_of_the_database_does_not_show_a_writer_the_past(
    postgres_server: PostgresServer, level: str
) -> None:
    registry = Registry(postgres_server.database(f"default_transaction_isolation = '{level}'"))
    with registry._transaction(write=True) as tx:
        assert tx.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


def test_a_connection_cut_between_two_calls_goes_unnoticed(postgres_server: PostgresServer, postgres_url: str) -> None:
    registry = Registry(postgres_url)
    registry.begin_push(10, "", {}, {}, {})
    postgres_server.cut_connections(postgres_url)  # while the files are copied
    registry.finish_push(10, "pipeline", "better")
    assert registry.live().version == 10


def test_a_connection_cut_in_the_middle_is_an_error_and_nothing_is_written(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    registry = Registry(postgres_url)
    push(registry, 10)

    def cut(_version: object) -> bool:
        postgres_server.cut_connections(postgres_url)
        return True

    registry.begin_push(11, "", {}, {}, {})
    with pytest.raises(RegistryError) as raised:
        registry.abandon_pushes(cut)
    message, name = str(raised.value), postgres_url.rpartition("/")[2]
    assert f"{ROLE}:***@127.0.0.1:{postgres_server.port}/{name} cannot be used: " in message
    assert LOST.search(message)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert {v.version: v.state for v in registry.versions()} == {11: "pushing", 10: "live"}
    assert registry.abandon_pushes(lambda version: True)[0].version == 11  # its turn to write was given back


def test_a_writer_that_froze_does_not_keep_the_others_out(postgres_url: str) -> None:
    def others_write(_version: object) -> bool:
        Registry(postgres_url).record_span(1, "learned", {}, "run")  # its turn comes although no one gives it
        return True

    frozen = Registry(postgres_url, busy_timeout_seconds=0.3)
    frozen.begin_push(10, "", {}, {}, {})
    with pytest.raises(RegistryError, match=LOST):
        frozen.abandon_pushes(others_write)
    assert frozen.get(10).state == "pushing"


def test_the_kernel_notices_within_a_minute_that_the_server_is_gone(postgres_url: str) -> None:
    registry = Registry(postgres_url)
    with registry._transaction() as tx:
        link = socket.socket(fileno=tx.connection.dbapi_connection.fileno())
        try:
            read = [link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)] + [
                link.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            ]
        finally:
            link.detach()
        is_on, idle_seconds, interval_seconds, probes, unanswered_milliseconds = read
        assert is_on
        assert idle_seconds + interval_seconds * probes <= 60  # nothing under way
        assert 0 < unanswered_milliseconds <= 60_000  # something sent


def test_a_server_that_does_not_answer_is_an_error_in_good_time(postgres_url: str) -> None:
    with Registry(postgres_url)._transaction() as tx:  # what holds without a word in the URL, in seconds
        assert tx.connection.dbapi_connection.get_dsn_parameters()["connect_timeout"] == "10"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, begun = silent.getsockname()[1], time.monotonic()
        message = refusal(Registry(f"postgresql+psycopg2://u:{QUOTED}@127.0.0.1:{port}/db?connect_timeout=2"))
    assert 1.5 < time.monotonic() - begun < 8
    assert f"u:***@127.0.0.1:{port}/db" in message
    assert "timeout expired; check that the server runs and is reachable from here" in message


def test_what_the_server_refuses_is_said_with_what_to_check(postgres_server: PostgresServer, postgres_url: str) -> None:
    wrong = refusal(Registry(postgres_url.replace(QUOTED, "sesame")))
    assert f'password authentication failed for user "{ROLE}"' in wrong
    assert "check that the server runs and is reachable from here, and the URL's user, password and database" in wrong
    assert "sesame" not in wrong
    gone = postgres_url.rpartition("/")[0] + "/nowhere"
    assert 'database "nowhere" does not exist; check' in refusal(Registry(gone))
    assert "Connection refused" in refusal(Registry(postgres_url.replace(str(postgres_server.port), "1")))
    in_query = f"postgresql://127.0.0.1:1/db?user={ROLE}&password={QUOTED}"
    assert "/db?user=evergreen cannot be used" in refusal(Registry(in_query))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PASSWORD}@host/db",  # SQLAlchemy reads hosts and ports out of it
        "postgresql://u:word@hunter2@host/db",
        "postgresql://u:p@host:hunter2/db",
        "registry.sqlite",
    ],
)
def test_a_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    message = refusal(Registry(url))
    assert "URL cannot be read; expected sqlite:///path or postgresql+psycopg2://user:password@host" in message


@pytest.mark.parametrize("driver", ["postgres", "postgresql+asyncpg", "mysql"])
def test_another_database_is_refused_with_the_known_ones(driver: str) -> None:
    message = refusal(Registry(f"{driver}://u:{QUOTED}@host/db"))
    assert f"cannot be a {driver} database; known: sqlite, sqlite+pysqlite, postgresql, postgresql+psycopg2" in message


def test_columns_that_a_later_release_added_do_not_disturb(registry_url: str) -> None:
    push(Registry(registry_url), 10)
    execute(registry_url, "ALTER TABLE versions ADD COLUMN colour TEXT", "ALTER TABLE spans ADD COLUMN size BIGINT")
    later = Registry(registry_url)
    push(later, 11)
    later.record_span(1, "learned", {}, "run")
    assert [v.version for v in later.versions()] == [11, 10]


def test_columns_that_an_earlier_release_did_not_have_are_named(registry_url: str) -> None:
    push(Registry(registry_url), 10)
    execute(registry_url, "ALTER TABLE versions DROP COLUMN manifest")
    message = refusal(Registry(registry_url))
    assert "was made by another release: its table versions has no column manifest; use that release" in message


def test_states_that_an_earlier_release_did_not_have_are_named(registry_url: str) -> None:
    """Else a rollback would be refused, files moved, when it is needed most."""
    old = (
        "CREATE TABLE versions (version BIGINT PRIMARY KEY, state VARCHAR(16), uri TEXT, manifest JSON, metrics JSON, "
    )
    old += "verdict JSON, created_at FLOAT, CONSTRAINT known_state CHECK (state IN ('pushing', 'live', 'retired')))"
    Registry(registry_url).live()
    execute(registry_url, "DROP TABLE versions", old)
    message = refusal(Registry(registry_url))
    assert "was made by another release: it knows no version that is quarantined or removed; use that" in message


def test_one_live_version_is_a_law_again_where_the_index_was_lost(registry_url: str) -> None:
    push(Registry(registry_url), 10)
    execute(registry_url, "DROP INDEX one_live_version")  # a copy by a tool that takes only tables
    registry = Registry(registry_url)
    registry.begin_push(11, "", {}, {}, {})
    with pytest.raises(sa.exc.IntegrityError):
        execute(registry_url, "UPDATE versions SET state = 'live'")
    assert registry.live().version == 10


def test_what_is_no_number_reads_as_null_where_an_earlier_release_wrote_it(tmp_path: Path) -> None:
    registry = Registry.at(tmp_path / "registry.sqlite")
    registry.begin_push(10, "", {}, {}, {})
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as file, file:
        file.execute("""UPDATE versions SET metrics = '{"auc": NaN, "low": -Infinity}'""")
    assert registry.get(10).metrics == {"auc": None, "low": None}


def test_a_file_that_is_no_registry_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is not a database, it is a text of some length " * 20)
    with pytest.raises(RegistryError, match="cannot be used: file is not a database"):
        Registry.at(tmp_path / "notes.txt").live()
