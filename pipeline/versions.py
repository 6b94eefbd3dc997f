"""What is told of a pushed version: its facts and figures, alone and beside another's."""

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from serving.registry_records import AuditLine, Version

NONE = "–"
FEW_SPANS = 6
SHORT = 8  # characters of a hash

Row = tuple[str, ...]


def facts(version: Version) -> dict[str, str]:
    """Name → value, of what the manifest says; what it does not say is "–"."""
    manifest = version.manifest
    index, hidden = manifest.get("index") or {}, manifest.get("availability") or {}

    def told(name: str, words: Callable[[Any], str] = str) -> str:
        value = manifest.get(name)
        return NONE if value is None else words(value)

    return {
        "spans": told("spans", few),
        "learned until": told("learned_until_seconds", moment),
        "warm-started from": told("warm_started_from"),
        "promoted from": told("promoted_from"),
        "items": told("items", _count),
        "users": told("users", _count),
        "hidden items": _count(hidden["items_hidden"]) if "items_hidden" in hidden else NONE,
        "index": str(index.get("effort") or index.get("kind") or NONE),
        "recall of the index": figure(index.get("recall")),
        "code": told("code_version"),
        "configuration": told("config_sha256", _short),
        "its index": told("index_config_sha256", _short),
        "vocabulary": told("vocabulary_sha256", _short),
        "model": told("model_sha256", _short),
    }


def metrics(version: Version) -> list[Row]:
    """Rows of (metric, value)."""
    return [(name, figure(value)) for name, value in version.metrics.items()]


def compared_metrics(one: Version, other: Version) -> list[Row]:
    """Rows of (metric, value of one, value of the other, how much the other is above); "–" where one is missing."""
    rows: list[Row] = []
    for name in {**one.metrics, **other.metrics}:
        a, b = one.metrics.get(name), other.metrics.get(name)
        rows.append((name, figure(a), figure(b), NONE if a is None or b is None else f"{b - a:+.4f}"))
    return rows


def differences(one: Version, other: Version) -> list[Row]:
    """Rows of (fact, that of one, that of the other), where they differ; of spans, those that only it has."""
    left, right = facts(one), facts(other)
    spans, others = set(one.manifest.get("spans", ())), set(other.manifest.get("spans", ()))
    rows: list[Row] = []
    if spans != others:
        rows.append(("only its spans", few(sorted(spans - others)), few(sorted(others - spans))))
    rows += [(name, left[name], right[name]) for name in left if name != "spans" and left[name] != right[name]]
    return rows


def audit_rows(lines: Sequence[AuditLine]) -> list[Row]:
    """Rows of (when, who, action, from, to, why), the newest first."""
    return [
        (moment(line.at), line.who, line.action, _number(line.from_version), _number(line.to_version), line.why)
        for line in reversed(lines)
    ]


def moment(seconds: float) -> str:
    """Seconds since 1970 as people read them, in UTC."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def figure(value: float | None) -> str:
    """Four digits, "–" for what was not measured."""
    return NONE if value is None else f"{value:.4f}"


def few(spans: Sequence[int]) -> str:
    """All of them, or the first and the last and how many they are."""
    if len(spans) > FEW_SPANS:
        return f"{spans[0]} … {spans[-1]} ({len(spans)})"
    return ", ".join(map(str, spans)) or NONE


def _number(version: int | None) -> str:
    return NONE if version is None else str(version)


def _count(number: int) -> str:
    return f"{number:,}"


def _short(digest: str) -> str:
    return digest[:SHORT]
