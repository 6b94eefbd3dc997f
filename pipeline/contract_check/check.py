"""`evergreen contract check`: is one span of the data as the contract says? Read and cleaned as a run would do it."""

from components.errors import DataError
from components.interaction_example_gen.files import SourceFile, existing_spans, interaction_files, no_file
from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.config import ConfigError, PipelineConfig
from pipeline.contract_check.entities import catalog_lines, user_lines
from pipeline.contract_check.line import Line
from pipeline.contract_check.log import log_lines
from pipeline.contract_check.read import read_log


def check(config: PipelineConfig, label: str | None = None) -> list[Line]:
    """Checks the span called `label` (None: the newest that has files), the catalog and the users.

    Raises ConfigError when `label` names no span.
    """
    contract, root = config.contract, config.data_root
    pattern = SpanPattern(contract.interactions.files)
    try:
        spans = existing_spans(root, contract)
        span = pattern.number(label) if label is not None else max(spans, default=0)
        files = interaction_files(root, contract, [span])
        if not files:
            raise no_file(root, contract, span)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except DataError as error:
        return [Line("FAIL", "files", str(error))]
    first = Line("PASS", "files", _about_files(files, spans, pattern, span))
    log, lines = read_log(config, files, span)
    window = [number for number in spans if span - config.examples.window_spans < number <= span]
    lines = [first, *lines, *(log_lines(config, log) if log.read else ())]
    return [*lines, *catalog_lines(config, log, window), *user_lines(config, log, window)]


def _about_files(files: list[SourceFile], spans: list[int], pattern: SpanPattern, span: int) -> str:
    size = sum(file.size_bytes for file in files)
    parsed = pattern.parse(files[0].name)
    version = f" of version {parsed[1]}" if parsed and pattern.has_versions else ""
    of_all = f"spans with files: {len(spans):,}, from {pattern.label(spans[0])} to {pattern.label(spans[-1])}"
    names = files[0].name if len(files) == 1 else f"{len(files):,} files{version}, such as {files[0].name}"
    return f"span {pattern.label(span)}: {names}{version if len(files) == 1 else ''} ({size:,} bytes); {of_all}"
