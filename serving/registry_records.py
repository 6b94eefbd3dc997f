"""What the registry answers with: rows of its tables as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Version:
    """One pushed version; `created_at` in seconds since 1970."""

    version: int
    state: str
    uri: str
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    verdict: dict[str, Any]
    created_at: float


@dataclass(frozen=True)
class SpanRecord:
    """What became of one span in one run; `recorded_at` in seconds since 1970."""

    span: int
    state: str
    verdict: dict[str, Any]
    run: str
    recorded_at: float


@dataclass(frozen=True)
class AuditLine:
    """Who changed what is served, when and why; the versions are None where there was none."""

    who: str
    at: float
    why: str
    action: str
    from_version: int | None
    to_version: int | None
