"""What is in production, what was before, who changed it and why: one small transactional store.

    registry = Registry.at("…/registry.sqlite")
    registry.begin_push(version, uri, manifest, metrics, verdict)     # the row, before any file is in place
    publish(source, base_path, version)                               # serving/releases.py
    registry.finish_push(version, who="pipeline", why="recall@10 +4%")  # live; the previous one is retired

States of a version; docs/registry.md has who changes them:

    pushing      its files are being copied
    live         in production
    retired      superseded; a rollback takes the newest retired one back to live
    quarantined  a person took it out as bad, when it was live (a rollback) or retired; never live again
    removed      it was retired or quarantined, and its files were cleaned away; its row stays

The database itself refuses a second live version (a partial unique index), and writers take turns, so that what a write
was decided on is still true when it is written. What became of spans is in serving/registry_spans.py.
Only the registry's modules know SQL; they import no TensorFlow, so commands built on them answer at once.

The store is a SQLite file, or on a cluster PostgreSQL: `postgresql+psycopg2://user:password@host:5432/database`.
In what is kept as JSON (manifest, metrics, verdict) NaN and infinity become null.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving.errors import RegistryError
from serving.registry_records import AuditLine, Version
from serving.registry_spans import SpanLedger
from serving.registry_tables import AUDIT, IDENTITY, VERSIONS


class Registry(SpanLedger):
    """What is live and what was, and the ledger of spans. Raises RegistryError where the database refuses."""

    @classmethod
    def at(cls, path: str | Path, now: Callable[[], float] = time.time) -> Registry:
        """The registry in a SQLite file."""
        return cls(f"sqlite:///{Path(path).absolute()}", now)

    def identity(self) -> str:
        """Which registry this is: 32 hexadecimal digits that no other has, even at the same URL after a fresh start."""
        with self._transaction(write=True) as tx:
            known = tx.execute(sa.select(IDENTITY.c.id)).scalar()
            if known is None:
                known = uuid.uuid4().hex
                tx.execute(IDENTITY.insert().values(id=known))
            return str(known)

    def begin_push(
        self,
        version: int,
        uri: str,
        manifest: dict[str, Any],
        metrics: dict[str, Any],
        verdict: dict[str, Any],
    ) -> None:
        """Announces a version whose files are about to be copied.

        Raises RegistryError if it is known already.
        """
        with self._transaction(write=True) as tx:
            known = _find(tx, version)
            if known:
                raise RegistryError(f"version {version} is in the registry already, as {known.state}")
            row = {"version": version, "state": "pushing", "uri": uri, "created_at": self.now()}
            tx.execute(
                VERSIONS.insert().values(**row, manifest=manifest, metrics=metrics, verdict=verdict),
            )

    def finish_push(self, version: int, who: str, why: str) -> None:
        """Makes a pushed version live and retires the live one, in one transaction.

        Where it is a promoted copy of an older one, spans that the live one knew and it does not are pending again.
        """
        with self._transaction(write=True) as tx:
            pushed = _require(tx, version)
            if pushed.state != "pushing":
                raise RegistryError(f"version {version} cannot go live: it is {pushed.state}, not pushing")
            live = _live(tx)
            if live and live.version > version:
                raise RegistryError(
                    f"version {version} cannot go live: {live.version} is live, and servers take the highest "
                    "number; push again under a new version"
                )
            self._go_live(tx, pushed, live, who, why, "promote" if _is_promoted(pushed) else "push")

    def abandon_pushes(self, exists: Callable[[Version], bool]) -> list[Version]:
        """Clears up after a killed push: finishes it where `exists` finds complete files, else forgets it.

        Call it when no push is under way. Returns the versions that were left in `pushing`, oldest first.
        """
        with self._transaction(write=True) as tx:
            query = sa.select(VERSIONS).where(VERSIONS.c.state == "pushing").order_by(VERSIONS.c.version)
            left = [_version(row) for row in tx.execute(query)]
            for pushed in left:
                live = _live(tx)
                if not exists(pushed):
                    tx.execute(VERSIONS.delete().where(VERSIONS.c.version == pushed.version))
                    why = "a push was interrupted before its files were complete"
                    self._audit(tx, "recovery", why, "abandon", pushed.version, _number(live))
                elif live and live.version > pushed.version:
                    _set_state(tx, pushed.version, "retired")
                    why = f"a push was interrupted, and {live.version} went live since"
                    self._audit(tx, "recovery", why, "retire", pushed.version, live.version)
                else:
                    why = "a push was interrupted after its files were complete"
                    self._go_live(tx, pushed, live, "recovery", why, "finish")
            return left

    def roll_back(self, version: int, who: str, why: str, uri: str, *, action: str = "rollback") -> Version:
        """Quarantines the live version and takes the newest retired one back in, and returns that one.

        Spans that only the quarantined one had learned are pending again, unless they are condemned.

        Args:
            uri: where the quarantined files are now.
            action: for the audit.

        Raises:
            RegistryError: `version` is not live, or there is no retired version to go back to.
        """
        with self._transaction(write=True) as tx:
            bad = _require(tx, version)
            if bad.state != "live":
                live = _live(tx)
                raise RegistryError(
                    f"version {version} is {bad.state}; only the live version can be rolled back"
                    + (f", which is {live.version}" if live else ", and none is live")
                )
            back = _newest_retired(tx)
            if back is None:
                raise RegistryError(
                    f"nothing to go back to: {version} is live and no retired version is left; "
                    "push another version, or stop the server"
                )
            _set_state(tx, version, "quarantined", uri)
            _set_state(tx, back.version, "live")
            reason = f"version {version}, which had learned it, was quarantined: {why}"
            self._learn_again(tx, _spans(bad) - _spans(back), reason, run=uri)
            self._audit(tx, who, why, action, version, back.version)
            return _require(tx, back.version)

    def quarantine(self, version: int, who: str, why: str, uri: str | None = None) -> None:
        """Marks a retired version bad, for good. What is live stays.

        Args:
            uri: where its files will be, if they are to be moved.

        Raises:
            RegistryError: it is not retired; the message says what it is.
        """
        with self._transaction(write=True) as tx:
            bad = _require(tx, version)
            if bad.state != "retired":
                raise RegistryError(f"version {version} cannot be quarantined: {_in_words(tx, bad)}")
            _set_state(tx, version, "quarantined", uri)
            self._audit(tx, who, why, "quarantine", version, None)

    def promotable(self, version: int) -> Version:
        """A version that may be brought back: a retired one. Raises RegistryError for any other, naming the retired."""
        with self._transaction() as tx:
            found = _require(tx, version)
            if found.state != "retired":
                query = sa.select(VERSIONS.c.version).where(VERSIONS.c.state == "retired")
                retired = tx.scalars(query.order_by(VERSIONS.c.version.desc()).limit(5))
                raise RegistryError(
                    f"version {version} cannot be promoted: {_in_words(tx, found)}; "
                    f"retired, and so to be had: {', '.join(map(str, retired)) or 'none'}"
                )
            return found

    def remove(self, versions: Iterable[int], who: str, why: str) -> None:
        """Gives up versions whose files are about to be removed; nothing chooses one of them any more.

        Raises:
            RegistryError: one is neither retired nor quarantined; none is given up then.
        """
        with self._transaction(write=True) as tx:
            for version in versions:
                found = _require(tx, version)
                if found.state not in ("retired", "quarantined"):
                    raise RegistryError(f"the files of version {version} cannot be removed: {_in_words(tx, found)}")
                _set_state(tx, version, "removed")
                self._audit(tx, who, why, "remove", version, None)

    def live(self) -> Version | None:
        """What is in production, or None before the first push."""
        with self._transaction() as tx:
            return _live(tx)

    def newest_retired(self) -> Version | None:
        """What a rollback would go back to, or None."""
        with self._transaction() as tx:
            return _newest_retired(tx)

    def get(self, version: int) -> Version:
        """One version. Raises RegistryError, naming the known ones, if it was never pushed."""
        with self._transaction() as tx:
            return _require(tx, version)

    def versions(self) -> list[Version]:
        """Every version ever pushed, newest first."""
        with self._transaction() as tx:
            query = sa.select(VERSIONS).order_by(VERSIONS.c.version.desc())
            return [_version(row) for row in tx.execute(query)]

    def audit(self) -> list[AuditLine]:
        """Every change of what is served, oldest first."""
        with self._transaction() as tx:
            rows = tx.execute(sa.select(AUDIT).order_by(AUDIT.c.id))
            return [AuditLine(r.who, r.at, r.why, r.action, r.from_version, r.to_version) for r in rows]

    def _go_live(
        self, tx: sa.Connection, pushed: Version, live: Version | None, who: str, why: str, action: str
    ) -> None:
        if live:
            _set_state(tx, live.version, "retired")  # first: the index allows one live version
        _set_state(tx, pushed.version, "live")
        if live and _is_promoted(pushed):
            reason = f"version {live.version}, which had learned it, gave way to an older one: {why}"
            self._learn_again(tx, _spans(live) - _spans(pushed), reason, run=pushed.uri)
        self._audit(tx, who, why, action, _number(live), pushed.version)

    def _audit(self, tx: sa.Connection, who: str, why: str, action: str, old: int | None, new: int | None) -> None:
        line = {"who": who, "at": self.now(), "why": why, "action": action}
        tx.execute(AUDIT.insert().values(**line, from_version=old, to_version=new))


def _number(version: Version | None) -> int | None:
    return version.version if version else None


def _spans(version: Version) -> set[int]:
    return set(version.manifest.get("spans", ()))


def _is_promoted(version: Version) -> bool:
    return "promoted_from" in version.manifest


def _version(row: Any) -> Version:
    return Version(row.version, row.state, row.uri, row.manifest, row.metrics, row.verdict, row.created_at)


def _find(tx: sa.Connection, version: int) -> Version | None:
    row = tx.execute(sa.select(VERSIONS).where(VERSIONS.c.version == version)).one_or_none()
    return _version(row) if row else None


def _require(tx: sa.Connection, version: int) -> Version:
    found = _find(tx, version)
    if found is None:
        query = sa.select(VERSIONS.c.version).order_by(VERSIONS.c.version.desc()).limit(5)
        known = ", ".join(str(number) for number in tx.scalars(query)) or "none"
        raise RegistryError(f"version {version} is not in the registry; newest known: {known}")
    return found


def _live(tx: sa.Connection) -> Version | None:
    row = tx.execute(sa.select(VERSIONS).where(VERSIONS.c.state == "live")).one_or_none()
    return _version(row) if row else None


def _newest_retired(tx: sa.Connection) -> Version | None:
    retired = sa.select(VERSIONS).where(VERSIONS.c.state == "retired")
    row = tx.execute(retired.order_by(VERSIONS.c.version.desc()).limit(1)).one_or_none()
    return _version(row) if row else None


def _in_words(tx: sa.Connection, version: Version) -> str:
    """What a version is that something cannot be done with."""
    if version.state != "quarantined":
        return {
            "live": "it is live",
            "pushing": "its push is not done; the next one clears up after one that was killed",
            "removed": "its files were removed, and nothing goes back to it",
        }.get(version.state, f"it is {version.state}")
    gone = (AUDIT.c.from_version == version.version) & AUDIT.c.action.in_(("rollback", "quarantine"))
    line = tx.execute(sa.select(AUDIT).where(gone).order_by(AUDIT.c.id.desc()).limit(1)).first()
    return "it is quarantined already" + (f", by {line.who}: {line.why}" if line else "")


def _set_state(tx: sa.Connection, version: int, state: str, uri: str | None = None) -> None:
    values = {"state": state} if uri is None else {"state": state, "uri": uri}
    tx.execute(VERSIONS.update().where(VERSIONS.c.version == version).values(**values))
