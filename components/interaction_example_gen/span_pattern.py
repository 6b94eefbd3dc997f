"""Where a span's files are: a glob in which placeholders stand for the span, and how spans are called.

spans/{span}/*.csv                      numbered spans
log/{YYYY}-{MM}-{DD}.csv                days; the span is the day's number since 1970-01-01, as TFX counts them
log/{YYYY}/{MM}/{DD}/{HH}/*.parquet     hours since 1970-01-01 00:00
spans/{span}/v{version}/*.csv           of a span with several versions the highest is read
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

EPOCH = datetime(1970, 1, 1)
PLACEHOLDERS = {
    "span": r"0|[1-9]\d*",
    "YYYY": r"\d{4}",
    "MM": r"\d{2}",
    "DD": r"\d{2}",
    "HH": r"\d{2}",
    "version": r"\d+",
}
KINDS = ({"span"}, {"YYYY", "MM", "DD"}, {"YYYY", "MM", "DD", "HH"})


@dataclass(frozen=True)
class SpanPattern:
    """A glob with placeholders, below the data root. Raises ValueError when they do not name a span."""

    files: str

    def __post_init__(self) -> None:
        names = set(re.findall(r"\{([^}]*)\}", self.files))
        if names - {"version"} not in KINDS:
            raise ValueError(
                f"files is {self.files!r}, which names {sorted(names) or 'no placeholder'}; it must say which span a "
                "file is of: {span}, or {YYYY}, {MM}, {DD} and perhaps {HH}, for example 'spans/{span}/*.csv'; "
                "{version} may stand beside them"
            )

    @property
    def has_versions(self) -> bool:
        return "{version}" in self.files

    @property
    def period(self) -> timedelta | None:
        """How long a span is; None for numbered ones, which do not say."""
        return None if "{span}" in self.files else timedelta(hours=1) if "{HH}" in self.files else timedelta(days=1)

    def glob(self, span: int | None = None) -> str:
        """Matches the files of one span, in all its versions; of every span when it is None."""
        values = {} if span is None else self._values(span)
        return re.sub(r"\{([^}]*)\}", lambda found: values.get(found[1], "*"), self.files)

    def parse(self, name: str) -> tuple[int, int] | None:
        """A file's name below the data root → (span, version), version 0 where there is none; None: not of a span."""
        found = re.fullmatch(self._expression(), name)
        if found is None:
            return None
        values = {key: int(value) for key, value in found.groupdict().items() if value is not None}
        version = values.pop("version", 0)
        if "span" in values:
            return values["span"], version
        try:
            moment = datetime(values["YYYY"], values["MM"], values["DD"], values.get("HH", 0))
        except ValueError:  # 2011-02-30
            return None
        return (moment - EPOCH) // self.period, version  # type: ignore[operator]  # dates have a period

    def label(self, span: int) -> str:
        """How people call the span: its number, or its date."""
        if self.period is None:
            return str(span)
        return f"{EPOCH + span * self.period:{'%Y-%m-%d' if self.period.days else '%Y-%m-%dT%H'}}"

    def labels(self, spans: Iterable[int]) -> str:
        """Several, for a sentence; 'none' when there is none."""
        return ", ".join(map(self.label, spans)) or "none"

    def number(self, label: str) -> int:
        """What `label` gave, or a plain number → the span. Raises ValueError for anything else."""
        if re.fullmatch(r"-?\d+", label):
            return int(label)
        if self.period is None:
            raise ValueError(f"span {label!r} is no number; {self.files!r} counts spans")
        try:
            return (datetime.fromisoformat(label) - EPOCH) // self.period
        except (ValueError, TypeError) as error:  # TypeError: a time with a zone
            raise ValueError(f"span {label!r} is neither a number nor a date such as 2011-12-09") from error

    def bounds_seconds(self, span: int, zone: tzinfo = timezone.utc) -> tuple[int, int] | None:
        """First second of the span and of the next one, since 1970 in UTC; None for numbered spans."""
        if self.period is None:
            return None
        begin, end = (EPOCH + number * self.period for number in (span, span + 1))
        return int(begin.replace(tzinfo=zone).timestamp()), int(end.replace(tzinfo=zone).timestamp())

    def _values(self, span: int) -> dict[str, str]:
        if self.period is None:
            return {"span": str(span)}
        moment = EPOCH + span * self.period
        return {"YYYY": f"{moment:%Y}", "MM": f"{moment:%m}", "DD": f"{moment:%d}", "HH": f"{moment:%H}"}

    def _expression(self) -> str:
        seen: set[str] = set()
        parts = []
        for part in re.split(r"(\{[^}]*\}|\*\*?|\?|\[[^\]]+\])", self.files):
            name = part[1:-1]
            if part.startswith("{"):
                parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{PLACEHOLDERS[name]})")
                seen.add(name)
            elif part.startswith("["):
                parts.append(f"[^{part[2:]}" if part.startswith("[!") else part)
            else:
                parts.append({"*": "[^/]*", "**": ".*", "?": "[^/]"}.get(part) or re.escape(part))
        return "".join(parts)
