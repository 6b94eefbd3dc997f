"""What a person sees of a run: a line per component with its time; the libraries' noise goes to a file."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

WIDTH = 26
PIPED_WIDTH = 160


class Console(logging.Handler):
    """Prints lines to the terminal as it was before `quiet` redirected it; also what `evergreen.*` loggers say."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._stream = stream
        self._open_line = False

    def say(self, line: str) -> None:
        """Prints one line."""
        if self._open_line and self._stream.isatty():
            self._stream.write("\r\033[K")
        self._open_line = False
        self._stream.write(line + "\n")
        self._stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """A line of a component while it works, set in below its name."""
        self.say(f"      {record.getMessage()}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One line for a step: its name while it runs (on a terminal), its name and seconds when it is done."""
        if self._stream.isatty():
            self._stream.write(f"  … {name}")
            self._stream.flush()
            self._open_line = True
        started = time.perf_counter()
        mark = "✗"
        try:
            yield
            mark = "✓"
        finally:
            self.say(f"  {mark} {name:<{WIDTH}}{time.perf_counter() - started:7.1f} s")


@contextmanager
def quiet(log_path: Path) -> Iterator[Console]:
    """Sends everything that is written to standard output and error, also by C++ code, to `log_path` meanwhile."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log = log_path.open("ab")
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(1), "w", encoding="utf-8", closefd=True)
    console = Console(terminal)
    logger = logging.getLogger("evergreen")
    before = (logger.level, logger.propagate)
    logger.setLevel(logging.INFO)
    logger.addHandler(console)
    with log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, target)
            os.close(saved)
        logger.removeHandler(console)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        terminal.close()


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns that line up; plain text, so that it can be piped."""
    from rich import box
    from rich.console import Console as Terminal
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))  # as it is: what people write may look like markup
    terminal = Terminal()
    Terminal(width=None if terminal.is_terminal else max(terminal.width, PIPED_WIDTH)).print(grid)
