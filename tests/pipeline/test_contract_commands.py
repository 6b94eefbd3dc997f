"""The commands of the data contract: what they print, where, and with which exit code."""

import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from components.errors import EvergreenError
from pipeline.commands.contract import check_freshness, contract
from pipeline.config import read_config


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two spans; the newest event was two hours ago."""
    now = int(time.time())
    for span in (1, 2):
        folder = tmp_path / f"data/spans/{span}"
        folder.mkdir(parents=True)
        begin = now - 7_200 - (3 - span) * 40 * 60
        rows = [f"u{n % 9},i{n % 5},{begin + 60 * (n % 40)},{'view' if n % 3 else 'like'}" for n in range(200)]
        (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,interaction_type", *rows]) + "\n")
    (tmp_path / "data/items.csv").write_text("item_id,title\n" + "".join(f"i{n},The item {n}\n" for n in range(5)))
    return tmp_path / "data"


def run(*arguments: object) -> tuple[int, str, str]:
    command = check_freshness if arguments[0] == "check-freshness" else contract
    done = CliRunner().invoke(command, [str(word) for word in arguments[1:]])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_infer_then_check(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/folder/config.yaml"
    code, words, _ = run("contract", "infer", data, "--out", out)
    assert (code, f"evergreen contract check {out}" in words) == (0, True)
    code, words, _ = run("contract", "check", out)
    assert words.splitlines()[-1].startswith("READY: ")
    assert code == 0
    assert run("contract", "check", out, "--span", 1)[1].startswith("PASS  files          span 1: ")


def test_infer_prints_without_out(data: Path, tmp_path: Path) -> None:
    _, text, _ = run("contract", "infer", data / "spans", data / "items.csv")
    (tmp_path / "printed.yaml").write_text(text)
    assert read_config(tmp_path / "printed.yaml").data_root == str(data)


def test_infer_does_not_write_over_what_is_there(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(EvergreenError, match=r"mine\.yaml is there already"):
        run("contract", "infer", data, "--out", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_a_failed_check_fails_the_command(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    run("contract", "infer", data, "--out", config)
    (data / "items.csv").unlink()
    code, words, _ = run("contract", "check", config)
    assert code == 1
    assert "FAIL  catalog" in words
    assert words.splitlines()[-1].startswith("NOT READY: 1 of ")


def test_check_reads_other_data(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    run("contract", "infer", data, "--out", config)
    code, words, _ = run("contract", "check", config, "--data", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere" in words


def test_freshness_speaks_on_stdout_and_of_silence_on_stderr(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    types = {"types": {"view": 1, "like": 2}}
    tree = {"name": "x", "data_root": str(data), "contract": {"interactions": types}}
    config.write_text(yaml.safe_dump(tree))
    code, out, err = run("check-freshness", "--config", config)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert "24 hours of silence are allowed" in out
    code, out, err = run("check-freshness", "--config", config, "--max-silence-minutes", 30)
    assert (code, out) == (1, "")
    assert "30 minutes of silence are allowed" in err
