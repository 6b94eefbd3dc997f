"""`evergreen tune`: a whole search with a planted truth, what it writes into the file, and what it leaves alone."""

import pytest
import yaml
from click.testing import CliRunner

from components.errors import DataError
from pipeline.commands.tune import conclude, show, tune
from pipeline.config import ConfigError, read_config
from pipeline.tune.search import Found, search
from trainer.search_space import TuningConfig
from trainer.tuning import Training

SETTINGS = """\
name: walks
data_root: .
contract: {interactions: {types: {view: 1.0}}}
examples: {max_history: 1, eval_fraction: 0.3}
trainer:
  # what a search of last year found
  learning_rate: 1e-8   # too careful
  embedding_dim: 16
  epochs: 4
  batch_positions: 64
  dropout: 0.0
  id_dropout: 0.0
tuning:
  space:
    learning_rate: {choices: [0.02, 1e30]} # one learns, one blows up
"""


def config_of(path, spans=2, users=40, items=20, length=10):
    """Users walk through the items one by one: the last item says what comes next."""
    for span in range(1, spans + 1):
        folder = path / "spans" / str(span)
        folder.mkdir(parents=True)
        rows = ["user_id,item_id,interaction_type,timestamp"]
        for user in range(users):
            walk = [(user * 7 + span * 3 + step) % items for step in range(length)]
            rows += [f"u{user},i{item},view,{span * 100_000 + user + 1_000 * step}" for step, item in enumerate(walk)]
        (folder / "log.csv").write_text("\n".join(rows) + "\n")
    (path / "items.csv").write_text("item_id\n" + "\n".join(f"i{item}" for item in range(items)) + "\n")
    (path / "config.yaml").write_text(SETTINGS)
    return path / "config.yaml"


@pytest.mark.slow
def test_the_rate_that_learns_is_found_and_written_and_nothing_else_changes(tmp_path):
    path = config_of(tmp_path)
    home = {"EVERGREEN_HOME": str(tmp_path / "home"), "COLUMNS": "160"}
    answer = CliRunner().invoke(tune, ["--config", str(path), "--trials", "9"], env=home, catch_exceptions=False)
    assert answer.exit_code == 0
    assert path.read_text() == SETTINGS.replace("1e-8 ", "0.02 ")
    assert read_config(path).trainer.learning_rate == 0.02
    assert "-  learning_rate: 1e-8   # too careful\n+  learning_rate: 0.02   # too careful" in answer.output
    rows = [line.split() for line in answer.output.splitlines() if line.strip().endswith(("s", "configured"))]
    by_rate = {rate: row for row in rows for rate in ("0.02", "1e-08", "1e+30") if rate in row}
    assert next(iter(by_rate)) == "0.02"  # the best first
    assert float(by_rate["0.02"][0]) > 0.9  # NDCG: of 20 items, the next one, nearly always
    assert float(by_rate["1e-08"][0]) < 0.5
    assert by_rate["1e-08"][-2:] == ["as", "configured"]
    assert list(by_rate)[-1] == "1e+30"
    assert by_rate["1e+30"][0] == "failed:"
    assert (tmp_path / "home" / "walks" / "logs" / "tune.log").exists()


def found(configured, *scores):
    """Trials at the rates 0.1, 0.2, …; the configured rate is 0.5."""
    trials = [
        Training(values={"learning_rate": (n + 1) / 10, "dropout": 0.1}, score=score, seconds=1.0)
        for n, score in enumerate(scores)
    ]
    values = {"learning_rate": 0.5, "dropout": 0.1}
    return Found(span="1", configured=Training(values=values, score=configured, seconds=2.0), trials=trials)


def test_what_changes_is_what_differs_in_the_best_trial_and_only_where_it_is_better():
    assert found(0.3, 0.31, 0.2).changes == {"learning_rate": 0.1}
    assert found(0.3, 0.3, 0.2).changes == {}
    assert found(None, 0.01).changes == {"learning_rate": 0.1}  # what is configured cannot be trained at all


def test_the_configured_settings_stand_at_their_place_in_the_table(capsys):
    show(found(0.2, 0.3, 0.1, None))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " s" in line]
    assert [line[0] for line in lines] == ["0.3000", "0.2000", "0.1000", "failed:"]
    assert lines[1][-2:] == ["as", "configured"]


def test_a_dry_run_shows_the_difference_and_writes_nothing(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("name: a\ntrainer: {learning_rate: 0.5}\n")
    conclude(found(0.2, 0.3), path, dry_run=True)
    assert "+trainer: {learning_rate: 0.1}" in capsys.readouterr().out
    assert path.read_text() == "name: a\ntrainer: {learning_rate: 0.5}\n"
    conclude(found(0.3, 0.2), path, dry_run=False)
    assert "no trial is better than what is configured" in capsys.readouterr().out
    assert path.read_text() == "name: a\ntrainer: {learning_rate: 0.5}\n"
    conclude(found(0.2, 0.3), path, dry_run=False)
    assert path.read_text() == "name: a\ntrainer: {learning_rate: 0.1}\n"


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"space": {"rate": {"choices": [1]}}}, r"tuning: .*unknown keys \['rate'\]; known here: batch_positions, "),
        ({"space": {"dropout": {"choices": [2]}}}, "tuning: .*the Trainer refuses 2: .*less than 1"),
        (
            {"space": {"dropout": {"lo": 0.1}}},
            "unknown key tuning.space.dropout.lo; known here: choices, high, log, low",
        ),
        ({"trials": 0}, "tuning.trials: .*greater than or equal to 1"),
    ],
)
def test_a_space_that_means_nothing_is_refused_as_the_file_is_read(tmp_path, tuning, words):
    path = config_of(tmp_path, spans=1, users=1)
    path.write_text(yaml.safe_dump(yaml.safe_load(SETTINGS) | {"tuning": tuning}))
    with pytest.raises(ConfigError, match=words):
        read_config(path)


def test_without_a_space_there_is_one(tmp_path):
    path = config_of(tmp_path, spans=1, users=1)
    path.write_text(SETTINGS.partition("tuning:")[0])
    assert read_config(path).tuning == TuningConfig()


def test_a_span_without_files_is_named_with_those_that_have_some_before_anything_is_built(tmp_path):
    with pytest.raises(DataError, match=r"nothing for span 7 matches 'spans/\{span\}/\*'.*spans with files: 1, 2"):
        search(read_config(config_of(tmp_path, users=1)), span=7)
