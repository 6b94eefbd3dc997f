"""What may be shown changes without another training."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tfx.types.standard_artifacts import Examples, Model

from components.artifacts import Production
from components.errors import BuildError
from components.index_builder.availability import list_of, read_unavailable, replace_mask
from components.index_builder.component import IndexBuilder

SIGNATURES = ("serving_default", "recommend", "similar_items")


def test_a_list_names_what_is_not_available(tmp_path):
    path = tmp_path / "stock.csv"
    path.write_text('available,item_id,price\nfalse,a,1\nTRUE,b,2\n0,"c,d",3\n1,e,4\n')
    assert read_unavailable(path) == ["a", "c,d"]
    path.write_text("\ufeffitem_id,available\n a ,false\n", encoding="utf-8")  # as Excel saves it
    assert read_unavailable(path) == ["a"]
    path.write_text("item_id,available\n")
    assert read_unavailable(path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item,available\na,0\n", r"has no column item_id; it has \['item', 'available'\]"),
        ("", "has no column item_id and no available"),
        ("item_id,available\na,0\nb,perhaps\n", "line 3: item_id 'b', available 'perhaps'; expected"),
        ("item_id,available\n,0\n", "line 2: item_id ''"),
        ("item_id,available\na\n", "line 2: item_id 'a', available None"),
    ],
)
def test_a_list_that_is_not_one_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "stock.csv"
    path.write_text(text)
    with pytest.raises(BuildError, match=words):
        read_unavailable(path)


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BuildError, match=r"stock.csv cannot be read"):
        read_unavailable(tmp_path / "stock.csv")


def answers(servable, items):
    """Every item that any list of the servable shows to anybody."""
    users, nothing = ["ann", "bob", "stranger"], [[""]] * 3
    inputs = {
        "serving_default": {"user_id": users},
        "recommend": {"user_id": users, "history": nothing, "exclude": nothing, "allow": nothing, "device": [""] * 3},
        "similar_items": {"item_id": items},
    }
    inputs["recommend"]["hour"] = tf.constant([np.nan] * 3)
    return {
        name: servable.signatures[name](**{key: tf.constant(value) for key, value in inputs[name].items()})
        for name in SIGNATURES
    }


@pytest.mark.parametrize("packed", ["small", "large"])
def test_what_is_not_available_is_shown_to_nobody_and_all_else_as_before(request, packed, tmp_path):
    packed = request.getfixturevalue(packed)
    before = answers(packed.servable, packed.ids[:20])
    shown = {item for name in SIGNATURES for item in before[name]["item_ids"].numpy().ravel().tolist()}
    gone = sorted(shown - {b""})[::2]
    hidden = replace_mask(packed.path, tmp_path / "hidden", [*(item.decode() for item in gone), "unheard-of"])
    assert (hidden.items, hidden.unknown) == (len(gone), 1)
    servable = tf.saved_model.load(str(tmp_path / "hidden"))
    after = answers(servable, packed.ids[:20])
    for name in SIGNATURES:
        assert not set(gone) & set(after[name]["item_ids"].numpy().ravel().tolist())
        assert (after[name]["item_ids"].numpy() != b"").all()
    kept = [item for item in before["recommend"]["item_ids"].numpy()[0].tolist() if item not in gone]
    assert [i for i in after["recommend"]["item_ids"].numpy()[0].tolist() if i in kept] == kept  # in the same order
    release = json.loads((tmp_path / "hidden/assets.extra/release.json").read_text())
    assert release == packed.release | {"availability": {"items_hidden": len(gone), "ids_unknown": 1}}

    replace_mask(tmp_path / "hidden", tmp_path / "again", [])
    again = answers(tf.saved_model.load(str(tmp_path / "again")), packed.ids[:20])
    for name in SIGNATURES:
        np.testing.assert_array_equal(again[name]["item_ids"], before[name]["item_ids"])
        np.testing.assert_array_equal(again[name]["scores"], before[name]["scores"])


def test_a_servable_of_before_is_refused(small, tmp_path):
    module = tf.Module()
    module.item_ids = tf.Variable([""])
    tf.saved_model.save(module, str(tmp_path / "old"))
    (tmp_path / "old/assets.extra").mkdir()
    (tmp_path / "old/assets.extra/release.json").write_text("{}")
    with pytest.raises(BuildError, match="has no mask of items that may be shown"):
        replace_mask(tmp_path / "old", tmp_path / "new", [])


def test_the_next_model_hides_what_is_hidden_in_production(small, tmp_path):
    """Through the doorway: production's list is read there."""
    gone = [item.decode() for item in small.recommend("ann").ids[:2]]
    replace_mask(small.path, tmp_path / "production/servable", gone)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/Format-Serving").symlink_to(small.path.parent / "model")
    for split, files in (("train", ["train.gz"]), ("eval", ["eval.gz"]), ("all", ["users-0.gz", "users-1.gz"])):
        (tmp_path / f"examples/Split-{split}").mkdir(parents=True)
        for name in files:
            (tmp_path / f"examples/Split-{split}/{name}").symlink_to(small.path.parent / name)
    summary = {"spans_read": [3], "spans_from_state": [], "lineage": {}, "eval_from_seconds": 100}
    (tmp_path / "examples/summary.json").write_text(json.dumps(summary))
    model, examples, users, production, servable = Model(), Examples(), Examples(), Production(), Model()
    examples.split_names, users.split_names = '["train", "eval"]', '["all"]'
    places = {model: "model", examples: "examples", users: "examples", production: "production", servable: "packed"}
    for artifact, name in places.items():
        artifact.uri = str(tmp_path / name)
    config = json.dumps({"top_k": 6, "num_candidates": 15})
    IndexBuilder.test_call(
        model=model, examples=examples, users=users, production=production, servable=servable, config=config
    )
    assert list_of(tmp_path / "packed") == gone
    shown = answers(tf.saved_model.load(str(tmp_path / "packed")), small.ids)
    assert not {i.encode() for i in gone} & set(shown["recommend"]["item_ids"].numpy().ravel().tolist())
