"""What a person sees and what goes to the log, judged from outside: a real process with real file descriptors."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.console import Console, table

NOISE = """
import logging, os, subprocess, sys
def noise(tag):
    print(f"print {tag}")
    print(f"warning {tag}", file=sys.stderr)
    os.write(1, f"fd1 {tag}\\n".encode())
    os.write(2, f"fd2 {tag}\\n".encode())
    subprocess.run(["sh", "-c", f"echo child {tag}; echo child-error {tag} >&2"])
"""
TERMINAL_LINES = {
    "out": ["print {}", "fd1 {}", "child {}"],
    "err": ["warning {}", "fd2 {}", "child-error {}"],
}


def lines(where: str, tag: str) -> list[str]:
    return [line.format(tag) for line in TERMINAL_LINES[where]]


def execute(tmp_path: Path, body: str) -> tuple[list[str], list[str], list[str]]:
    """Lines of standard output, of standard error, and of the log."""
    log = tmp_path / "deep" / "run.log"
    code = f"{NOISE}\nfrom pathlib import Path\nfrom pipeline.console import quiet\nlog = Path({str(log)!r})\n{body}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines(), log.read_text().splitlines()


def test_noise_goes_to_the_log_and_our_lines_to_the_terminal(tmp_path: Path) -> None:
    out, err, log = execute(
        tmp_path,
        """
noise("before")
with quiet(log) as console:
    noise("inside")
    console.say("▸ ours")
    logging.getLogger("evergreen.trainer").info("epoch %d", 3)
    logging.getLogger("evergreen.trainer").debug("not shown")
    logging.getLogger("absl").warning("not ours")
noise("after")
""",
    )
    ours = ["▸ ours", "      epoch 3"]
    assert sorted(out) == sorted(lines("out", "before") + ours + lines("out", "after"))
    assert [line for line in out if line in ours] == ours
    assert sorted(err) == sorted(lines("err", "before") + lines("err", "after"))
    assert set(lines("out", "inside") + lines("err", "inside")) <= set(log)
    assert any("not ours" in line for line in log)
    assert not any("before" in line or "after" in line for line in log)


def test_the_terminal_is_given_back_after_an_exception(tmp_path: Path) -> None:
    out, err, log = execute(
        tmp_path,
        """
logger = logging.getLogger("evergreen")
def state():
    return len(os.listdir("/proc/self/fd")), list(logger.handlers), logger.level, logger.propagate
before = state()
for _ in range(3):
    try:
        with quiet(log):
            noise("inside")
            raise ValueError("on purpose")
    except ValueError as error:
        print("caught", error)
noise("after")
assert state() == before, (state(), before)
""",
    )
    assert sorted(out) == sorted(["caught on purpose"] * 3 + lines("out", "after"))  # what Python buffers comes late
    assert sorted(err) == sorted(lines("err", "after"))
    assert log.count("fd2 inside") == 3  # a log is continued, not written over


def test_a_log_that_cannot_be_opened_leaves_everything_as_it_was(tmp_path: Path) -> None:
    out, _, _ = execute(
        tmp_path,
        """
log.mkdir(parents=True)  # a folder is in the way
logger = logging.getLogger("evergreen")
def state():
    return len(os.listdir("/proc/self/fd")), list(logger.handlers), logger.level
before = state()
try:
    with quiet(log):
        pass
except OSError:
    print("refused", state() == before)
log.rmdir()
log.write_text("")
""",
    )
    assert out == ["refused True"]


def test_words_of_any_language_come_through_a_plain_terminal(tmp_path: Path) -> None:
    out, _, _ = execute(tmp_path, 'with quiet(log) as console:\n    console.say("Été · ▸")')
    assert out == ["Été · ▸"]


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_step_is_one_line_with_its_seconds() -> None:
    stream = io.StringIO()
    console = Console(stream)
    with console.step("Trainer"):
        console.say("      epoch 1")
    with pytest.raises(ValueError, match="broken"), console.step("Pusher"):
        raise ValueError("broken")
    first, second, third = stream.getvalue().splitlines()
    assert first == "      epoch 1"
    assert second.startswith("  ✓ Trainer ")
    assert second.endswith(" s")
    assert third.startswith("  ✗ Pusher ")


def test_on_a_terminal_the_running_step_is_shown_and_wiped() -> None:
    screen = Screen()
    with Console(screen).step("Trainer"):
        assert screen.getvalue() == "  … Trainer"
    assert screen.getvalue().startswith("  … Trainer\r\033[K  ✓ Trainer")


def test_a_table_shows_what_people_wrote_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table(("why",), [("[red] herrings [/]",)])
    assert "[red] herrings [/]" in capsys.readouterr().out
