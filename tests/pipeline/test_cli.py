"""The `evergreen` command as a person runs it: real processes over a small real registry."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.registry import Registry

COMMAND = Path(sys.executable).with_name("evergreen")
HEAVY = ("tensorflow", "tfx", "apache_beam", "tensorflow_data_validation", "ml_metadata", "scann")


def evergreen(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"EVERGREEN_HOME": str(home), "COLUMNS": "160"}
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=home)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error that is meant for a person."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def push(root: Path, version: int, span: int, recall: float, *, finish: bool = True) -> None:
    """A version as the Pusher leaves it: files that a server would take, and its row."""
    folder = root / "serving" / "recommender" / str(version)
    folder.mkdir(parents=True)
    folder.joinpath("saved_model.pb").write_bytes(b"")
    registry = Registry.at(root / "registry.sqlite")
    metrics = {"recall@10": recall, "recall@100": 4 * recall}
    registry.begin_push(version, str(folder), {"spans": list(range(1, span + 1))}, metrics, {"is_blessed": True})
    if finish:
        registry.finish_push(version, "pipeline", "better")
        registry.record_span(span, "learned", {}, "run")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One pipeline: two versions were pushed, span 3 was stopped."""
    root = tmp_path / "tiny"
    push(root, 100, span=1, recall=0.1)
    push(root, 200, span=2, recall=0.2)
    verdict = {"reasons": ["30 of 100 rows rejected", "too few targets"]}
    Registry.at(root / "registry.sqlite").record_span(3, "quarantined", verdict, "run")
    return tmp_path


def cells(table: str) -> list[list[str]]:
    """The rows below the header's rule."""
    below = table.split("─")[-1]
    return [line.split() for line in below.splitlines() if line.strip()]


def test_help_names_every_command(tmp_path: Path) -> None:
    done = evergreen(tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    for command in ("run", "runs", "models", "rollback", "spans", "serve", "schema", "kubeflow"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "runs list",
        "runs show",
        *(f"models {name}" for name in ("list", "show", "compare", "audit")),
        *(f"models {name}" for name in ("rollback", "quarantine", "promote", "clean", "trace")),
        "rollback",
        "spans",
        "serve",
        "schema freeze",
    ],
)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    from click.testing import CliRunner

    from pipeline.cli import cli

    done = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert done.output.startswith("Usage: ")
    assert len(done.output.splitlines()[2].strip()) > 10  # a sentence, not an empty line


def test_models_list_shows_every_version_the_newest_first(home: Path) -> None:
    done = evergreen(home, "models", "list")
    assert done.returncode == 0, done.stderr
    # recall@100 = 4 × recall@10 in this fixture; no NDCG was measured
    assert cells(done.stdout) == [
        ["200", "live", "1,", "2", "0.2000", "0.8000", "–"],
        ["100", "retired", "1", "0.1000", "0.4000", "–"],
    ]


def test_spans_shows_what_became_of_each_and_why(home: Path) -> None:
    done = evergreen(home, "spans")
    assert [row[:2] for row in cells(done.stdout)] == [["1", "learned"], ["2", "learned"], ["3", "quarantined"]]
    assert "30 of 100 rows rejected; too few targets" in done.stdout


def test_rollback_goes_back_once_and_says_why_it_cannot_twice(home: Path) -> None:
    done = evergreen(home, "rollback", "--why", "bad titles")
    assert done.stdout == "version 200 is quarantined; version 100 is live\n", done.stderr
    registry = Registry.at(home / "tiny" / "registry.sqlite")
    assert [(v.version, v.state) for v in registry.versions()] == [(200, "quarantined"), (100, "live")]
    assert registry.audit()[-1].why == "bad titles"
    assert not (home / "tiny" / "serving" / "recommender" / "200").exists()
    assert (home / "tiny" / "serving" / "quarantined" / "200" / "saved_model.pb").is_file()
    assert "nothing to go back to: 100" in refused(evergreen(home, "rollback"))
    assert registry.live().version == 100


def test_on_a_cluster_the_registry_is_named_by_its_url(home: Path) -> None:
    """As the rollback job runs it: no EVERGREEN_HOME has a pipeline there, and no pipeline is named."""
    url = f"--registry-url=sqlite:///{home / 'tiny' / 'registry.sqlite'}"
    elsewhere = home / "nothing"
    elsewhere.mkdir()
    assert [row[:2] for row in cells(evergreen(elsewhere, "models", "list", url).stdout)] == [
        ["200", "live"],
        ["100", "retired"],
    ]
    assert "go together" in refused(evergreen(elsewhere, "rollback", url))
    done = evergreen(elsewhere, "rollback", url, "--serving-path", str(home / "tiny/serving/recommender"))
    assert done.stdout == "version 200 is quarantined; version 100 is live\n", done.stderr
    assert (home / "tiny/serving/quarantined/200/saved_model.pb").is_file()
    assert [row[:2] for row in cells(evergreen(elsewhere, "spans", url).stdout)][1] == ["2", "pending"]


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    assert "no configuration at" in refused(evergreen(tmp_path, "run", "--config", "none.yaml"))
    freeze = evergreen(tmp_path, "schema", "freeze", "--config", "none.yaml", "--to", "schema")
    assert "no configuration at" in refused(freeze)


def test_an_unknown_key_is_one_line_that_names_the_known_ones(tmp_path: Path) -> None:
    config = {"name": "tiny", "contract": {"interactions": {"types": {"view": 1.0}}}, "trainer": {"epoch": 3}}
    tmp_path.joinpath("config.yaml").write_text(json.dumps(config))  # JSON is YAML
    line = refused(evergreen(tmp_path, "run", "--config", "config.yaml"))
    assert "unknown key trainer.epoch; known here: " in line
    assert "epochs" in line


@pytest.mark.slow
def test_data_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    config = {"name": "tiny", "contract": {"interactions": {"types": {"view": 1.0}}}}
    tmp_path.joinpath("config.yaml").write_text(json.dumps(config))
    assert "no span has files" in refused(evergreen(tmp_path, "run", "--config", "config.yaml"))


@pytest.mark.parametrize("command", ["models list", "spans", "rollback", "serve", "runs list"])
def test_without_a_registry_the_first_step_is_named(tmp_path: Path, command: str) -> None:
    assert "run one first: evergreen run" in refused(evergreen(tmp_path, *command.split()))


@pytest.mark.parametrize("command", ["models list", "spans", "rollback"])
def test_a_pipeline_of_another_name_has_no_registry(home: Path, command: str) -> None:
    line = refused(evergreen(home, *command.split(), "--pipeline", "other"))
    assert "no registry at" in line
    assert not (home / "other").exists()


def test_of_two_pipelines_one_must_be_named(home: Path) -> None:
    push(home / "other", 300, span=1, recall=0.3)
    line = refused(evergreen(home, "models", "list"))
    assert "--pipeline" in line
    assert "other, tiny" in line
    assert cells(evergreen(home, "models", "list", "--pipeline", "other").stdout)[0][0] == "300"


def test_an_unknown_run_is_one_line(home: Path) -> None:
    assert "run '2020-01-01' is not in" in refused(evergreen(home, "runs", "show", "2020-01-01"))


def test_a_spoiled_registry_is_one_line(home: Path) -> None:
    for path in home.glob("tiny/registry.sqlite*"):  # the write-ahead log would make it whole again
        path.unlink()
    home.joinpath("tiny", "registry.sqlite").write_bytes(b"no database " * 100)
    for command in (["models", "list"], ["spans"], ["rollback"]):
        assert "registry" in refused(evergreen(home, *command))


def test_a_wrong_option_is_clicks_own_usage_error(tmp_path: Path) -> None:
    done = evergreen(tmp_path, "run")
    assert done.returncode == 2
    assert "--config" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["models", "list"],
        ["models", "show", "200"],
        ["models", "compare", "100", "200"],
        ["models", "quarantine", "100", "--why", "x"],
        ["models", "clean", "--keep", "2"],
        ["spans"],
        ["rollback"],
    ],
)
def test_what_needs_no_tensorflow_imports_none(home: Path, arguments: list[str]) -> None:
    code = (
        "import atexit, sys; from pipeline.cli import main\n"
        f"atexit.register(lambda: print('LOADED', sorted(set({HEAVY}) & set(sys.modules))))\n"
        f"sys.argv[1:] = {arguments}\nmain()"
    )
    environment = os.environ | {"EVERGREEN_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"
