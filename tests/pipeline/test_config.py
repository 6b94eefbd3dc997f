"""The configuration: what is written is what is read, and a mistake is named together with what was possible."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from pipeline.config import ConfigError, PipelineConfig, read_config, to_json
from trainer.features import Feature

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def tree(**changes: Any) -> dict[str, Any]:
    """The least that must be said, with every kind of leaf once."""
    return {
        "name": "tiny",
        "data_root": "data",
        "contract": {
            "interactions": {"types": {"view": 1.0, "buy": 2.0}, "context": [{"name": "device"}]},
            "items": {"features": [{"name": "genre"}, {"name": "year", "type": "number"}]},
            "users": {"features": [{"name": "age", "type": "number"}]},
        },
    } | changes


def put(value: Any, path: str) -> dict[str, Any]:
    """The tree with `value` at a dotted path."""
    changed = tree()
    *folders, leaf = path.split(".")
    node: Any = changed
    for part in folders:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    node[leaf] = value
    return changed


@pytest.fixture
def read(tmp_path: Path):
    """Writes a tree as YAML and reads it."""

    def read_tree(content: Any, **arguments: Any) -> PipelineConfig:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(content))
        return read_config(path, **arguments)

    return read_tree


def test_yaml_to_json_and_back_is_the_same_configuration(read) -> None:
    changes = {"trainer": {"epochs": 3, "learning_rate": 0.01}, "evaluation": {"floors": {"recall@10": 0.2}}}
    config = read(tree(**changes, beam_pipeline_args=["--x=1"]))
    again = TypeAdapter(PipelineConfig).validate_json(to_json(config))
    assert again == config
    assert (again.trainer.epochs, again.trainer.learning_rate, again.beam_pipeline_args) == (3, 0.01, ("--x=1",))
    assert to_json(again) == to_json(config)


@pytest.mark.parametrize(
    "leaf", ["contract", "examples", "gate", "trainer", "index", "evaluation", "validator", "pusher", "model"]
)
def test_every_leaf_comes_through_json_unchanged(read, leaf: str) -> None:
    value = getattr(read(tree()), leaf)
    assert TypeAdapter(type(value)).validate_json(to_json(value)) == value


def test_the_model_gets_the_declared_features_and_how_far_to_look_back(read) -> None:
    model = read(tree(examples={"max_history": 7})).model
    assert model.max_history == 7
    assert model.features.item == (Feature(name="genre"), Feature(name="year", type="number"))
    assert [f.name for f in model.features.user + model.features.context] == ["age", "device"]
    assert model.features.strongest_type == "buy"


def test_configurations_cannot_be_changed_after_the_check(read) -> None:
    with pytest.raises(AttributeError):
        read(tree()).trainer.epochs = 5


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("nam", ["name", "data_root", "contract", "trainer", "schema_dir"]),
        ("trainer.epoch", ["epochs", "learning_rate", "seed"]),
        ("contract.intercations", ["interactions", "items", "users"]),
        ("contract.interactions.tims", ["timestamp", "timestamp_unit", "types"]),
        ("contract.interactions.context.0.nam", ["name", "type", "separator"]),
        ("contract.items.features.0.nam", ["name", "type", "separator"]),
        ("contract.items.features.1.typ", ["name", "type", "separator"]),
        ("contract.users.user", ["files", "user_id", "features"]),
        ("contract.users.features.0.kind", ["name", "type", "separator"]),
        ("gate.drift", ["drift_l_infinity", "min_targets"]),
        ("index.topk", ["top_k", "num_candidates"]),
        ("evaluation.floor", ["floors", "max_drop"]),
        ("validator.max_ms", ["max_p50_ms"]),
        ("pusher.keep", ["keep_versions"]),
        ("examples.window", ["window_spans", "max_history"]),
    ],
)
def test_an_unknown_key_is_refused_and_the_known_ones_named(read, key: str, known: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        read(put("x", key))
    _, _, after = str(refused.value).partition(f"unknown key {key}; known here: ")
    assert after, refused.value
    assert set(known) <= set(after.split("; ")[0].split(", "))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.epochs", 0),
        ("trainer.epochs", "many"),
        ("trainer.learning_rate", 0),
        ("trainer.dropout", 1),
        ("trainer.embedding_dim", 1),
        ("trainer.history_encoder", "median"),
        ("examples.eval_fraction", 0),
        ("examples.eval_fraction", 1),
        ("examples.window_spans", 0),
        ("examples.targets", "old"),
        ("gate.rejected_fraction", 1.5),
        ("index.top_k", 0),
        ("index.min_recall", 1.01),
        ("validator.max_p50_ms", 0),
        ("pusher.keep_versions", 1),
        ("contract.interactions.timestamp_unit", "hours"),
        ("contract.items.features.0.type", "colour"),
        ("contract.interactions.types", ["view"]),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_its_key_and_what_was_got(read, key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        read(put(value, key))
    assert f"{key}: " in str(refused.value)
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": {"top_k": 30, "num_candidates": 20}}, r"num_candidates is 20; it must be at least top_k \(30\)"),
        ({"index": {"exclude_seen": ["bought"]}}, r"exclude_seen names the types \['bought'\]; the contract has"),
        (put({}, "contract.interactions.types"), "no type is positive"),
        (put({"view": 0.0}, "contract.interactions.types"), "expected a number above 0"),
        (put("log/*.csv", "contract.interactions.files"), "must say which span"),
        (put([{"name": "item_id"}], "contract.items.features"), "taken by the examples"),
        (put([{"name": "age"}], "contract.items.features"), "declared twice"),
        (put([{"name": "popularity"}], "contract.items.features"), "taken by the catalog"),
        (put([{"name": "tags", "type": "categories"}], "contract.interactions.context"), "one value per interaction"),
        (put(None, "contract.interactions.interaction_type"), "must name exactly one type"),
    ],
)
def test_leaves_that_contradict_themselves_are_refused(read, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tree() | changes)


def test_all_mistakes_are_told_at_once(read) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tree(trainer={"epoch": 3, "dropout": 2}, name="Big Name"))
    for part in ("unknown key trainer.epoch", "trainer.dropout", "name: "):
        assert part in str(refused.value)


@pytest.mark.parametrize("name", ["movielens", "m", "a1_b-c"])
def test_names_that_can_be_folders_and_pipelines(read, name: str) -> None:
    assert read(tree(name=name)).name == name


@pytest.mark.parametrize("name", ["Movielens", "1st", "", "a b", "../up", "a/b", "a.b", "_", 7, "ok\n"])
def test_other_names_are_refused(read, name: Any) -> None:
    with pytest.raises(ConfigError, match="name: "):
        read(tree(name=name))


@pytest.mark.parametrize("key", ["name", "contract"])
def test_a_missing_key_is_named(read, key: str) -> None:
    rest = tree()
    del rest[key]
    with pytest.raises(ConfigError, match=key):
        read(rest)


def test_relative_paths_start_at_the_files_folder(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = read(tree(schema_dir="frozen"))
    assert (config.data_root, config.schema_dir) == (str(tmp_path / "data"), str(tmp_path / "frozen"))
    rest = tree()
    del rest["data_root"]
    assert read(rest).data_root == str(tmp_path / "data")


def test_the_path_of_the_file_itself_may_be_relative(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tree())
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("config.yaml")).data_root == str(tmp_path / "data")


def test_absolute_paths_stay(read) -> None:
    config = read(tree(data_root="/mnt/data", schema_dir="/mnt/schema"))
    assert (config.data_root, config.schema_dir) == ("/mnt/data", "/mnt/schema")


def test_the_callers_data_root_comes_before_the_files(read) -> None:
    assert read(tree(), data_root="/elsewhere").data_root == "/elsewhere"


def test_the_callers_data_root_starts_where_the_caller_is(read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert read(tree(), data_root="elsewhere").data_root == str(EXAMPLES / "elsewhere")


def test_data_may_be_far_away(read) -> None:
    """The log and the catalog are found through Beam's file systems."""
    assert read(tree(data_root="gs://bucket/data")).data_root == "gs://bucket/data"
    assert read(tree(), data_root="s3://bucket/data").data_root == "s3://bucket/data"


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration at .*/none\.yaml; .*--config"):
        read_config(tmp_path / "none.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration at"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1, 2", "is not YAML"),
        (b"a: b: c", "is not YAML"),
        (b"", "holds NoneType"),
        (b"- name: x", "holds list"),
        (b"just words", "holds str"),
        (b"name: \xff\xfe", "is not"),
    ],
)
def test_what_is_no_tree_of_keys_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


@pytest.mark.parametrize("key", ["data_root", "schema_dir"])
def test_a_path_that_is_no_text_is_refused_in_words(read, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        read(tree(**{key: 7}))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/config.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_configurations_are_valid(path: Path) -> None:
    config = read_config(path)
    assert config.name == path.parent.name
    assert Path(config.data_root).parent == path.parent
