"""Settings written into a YAML file: the values change, and every other character stays."""

import pytest
import yaml

from pipeline.config import ConfigError
from pipeline.tune.config_file import with_settings, write

FILE = """\
# A shop.
name: shop  # ours

trainer:
  # found by hand
  epochs: 3   # enough
  history_encoder: "mean"
  dropout: 0.10 # of everything

index: {top_k: 5}
"""


def test_values_change_in_place_and_new_ones_come_behind_the_last():
    values = {"epochs": 40, "history_encoder": "gru", "learning_rate": 0.00237, "patience_epochs": None}
    assert (
        with_settings(FILE, "trainer", values)
        == """\
# A shop.
name: shop  # ours

trainer:
  # found by hand
  epochs: 40   # enough
  history_encoder: gru
  dropout: 0.10 # of everything
  learning_rate: 0.00237
  patience_epochs: null

index: {top_k: 5}
"""
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: a\n", "name: a\n\ntrainer:\n  epochs: 4\n  dropout: 0.5\n"),
        ("name: a", "name: a\n\ntrainer:\n  epochs: 4\n  dropout: 0.5\n"),
        ("trainer:\nname: a\n", "trainer:\n  epochs: 4\n  dropout: 0.5\nname: a\n"),
        ("trainer: # mine\nname: a\n", None),
        ("trainer: {}\n", "trainer: {epochs: 4, dropout: 0.5}\n"),
        ("trainer: {epochs: 1} # x\n", "trainer: {epochs: 4, dropout: 0.5} # x\n"),
        ("trainer: {dropout: .1, seed: 2}\n", "trainer: {dropout: 0.5, seed: 2, epochs: 4}\n"),
        ("trainer:\n    epochs: 1\n", "trainer:\n    epochs: 4\n    dropout: 0.5\n"),
        ("trainer:\n  epochs: 1", "trainer:\n  epochs: 4\n  dropout: 0.5"),
        ("trainer:\n  epochs:\n  dropout: 0.1\n", "trainer:\n  epochs: 4\n  dropout: 0.5\n"),
        ("name: a\r\ntrainer:\r\n  epochs: 1\r\n", "name: a\r\ntrainer:\r\n  epochs: 4\r\n  dropout: 0.5\r\n"),
        ("trainer:\n  epochs: 1\n\n# top\nindex: {}\n", "trainer:\n  epochs: 4\n  dropout: 0.5\n\n# top\nindex: {}\n"),
        ("name: é 漢\ntrainer: {epochs: 1}\n", "name: é 漢\ntrainer: {epochs: 4, dropout: 0.5}\n"),
    ],
)  # fmt: skip
def test_however_the_leaf_is_written(before, after):
    values = {"epochs": 4, "dropout": 0.5}
    edited = with_settings(before, "trainer", values)
    if after is not None:
        assert edited == after
    tree = yaml.safe_load(before)
    assert yaml.safe_load(edited) == {**tree, "trainer": {**(tree.get("trainer") or {}), **values}}
    assert all(comment in edited for comment in before.split("#")[1:2])


def test_a_rate_that_yaml_would_read_as_text_is_written_as_a_number():
    edited = with_settings("trainer: {}\n", "trainer", {"learning_rate": 1e-5})
    assert yaml.safe_load(edited) == {"trainer": {"learning_rate": 1e-5}}


def test_a_value_that_others_share_is_not_touched_and_the_words_to_write_are_told():
    shared = "one: &rate 0.1\ntrainer:\n  dropout: *rate\n"
    with pytest.raises(ConfigError, match=r"an alias; write: \{trainer: \{dropout: 0.3\}\}"):
        with_settings(shared, "trainer", {"dropout": 0.3})


def test_a_file_is_replaced_through_its_link_and_keeps_its_mode(tmp_path):
    file, link = tmp_path / "config.yaml", tmp_path / "link.yaml"
    file.write_text("a: 1\n")
    file.chmod(0o640)
    link.symlink_to(file)
    write(link, "a: 2\r\n")
    assert file.read_bytes() == b"a: 2\r\n"
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "link.yaml"]
