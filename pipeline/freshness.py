"""`evergreen check-freshness`: how long ago the newest event of the log happened, and whether that is too long."""

from dataclasses import dataclass
from datetime import datetime, timezone

from components.interaction_example_gen.clean import clean, columns_of
from components.interaction_example_gen.files import existing_spans, interaction_files
from components.interaction_example_gen.read import is_empty, read_blocks
from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.config import PipelineConfig


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """A verdict, and the one line that tells it."""

    is_silent: bool
    sentence: str


def check_freshness(config: PipelineConfig, now: datetime, max_silence_minutes: float | None = None) -> Freshness:
    """Reads the newest span that has an event, as a run would; the bound is the gate's when none is given.

    Looks at as many spans as a run's window has: an empty file of today does not hide yesterday's events.
    Raises DataError when a file cannot be read.
    """
    allowed = config.gate.max_silence_minutes if max_silence_minutes is None else max_silence_minutes
    rule = f"{_words(allowed)} of silence are allowed"
    log = config.contract.interactions
    spans = existing_spans(config.data_root, config.contract)
    if not spans:
        return Freshness(is_silent=True, sentence=f"no files match {log.files!r} below {config.data_root!r}; {rule}")
    looked_at = spans[::-1][: config.examples.window_spans]
    newest = next((seconds for span in looked_at if (seconds := _newest_seconds(config, span)) is not None), None)
    if newest is None:
        labels = SpanPattern(log.files).labels(looked_at[::-1])
        return Freshness(is_silent=True, sentence=f"no event in the newest spans with files: {labels}; {rule}")
    silence_minutes = max(0.0, (now.timestamp() - newest) / 60)
    moment = f"{datetime.fromtimestamp(newest, tz=timezone.utc):%Y-%m-%d %H:%M} UTC"
    return Freshness(
        is_silent=silence_minutes > allowed,
        sentence=f"newest event {moment}, {_words(silence_minutes)} ago; {rule}",
    )


def _newest_seconds(config: PipelineConfig, span: int) -> int | None:
    """Of the accepted rows of a span; None when there is none."""
    contract = config.contract.interactions
    newest: int | None = None
    for file in interaction_files(config.data_root, config.contract, [span]):
        for block in read_blocks(file, columns_of(contract)):
            if is_empty(block) or not len(table := clean(block, contract).table):
                continue
            newest = max(int(table["timestamp"].to_numpy().max()), newest or 0)
    return newest


def _words(minutes: float) -> str:
    """As people say it: minutes up to two hours, hours up to two days."""
    if minutes < 120:
        return "1 minute" if round(minutes) == 1 else f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 2_880 else f"{minutes / 1_440:,.0f} days"
