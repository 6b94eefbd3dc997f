"""What may be shown changes without another training."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types.standard_artifacts import Examples, Model

from components.artifacts import Production
from components.availability import list_of, read_unavailable, replace_mask
from components.errors import BuildError, EvergreenError
from components.index_builder.component import IndexBuilder
from components.pusher.push import Parts, push
from serving.registry import Registry

SIGNATURES = ("serving_default", "recommend", "similar_items")


def test_a_list_names_what_is_not_available(tmp_path):
    path = tmp_path / "stock.csv"
    path.write_text('available,item_id,price\nfalse,a,1\nTRUE,b,2\n0,"c,d",3\n1,e,4\n')
    assert read_unavailable(path) == ["a", "c,d"]
    path.write_text("\ufeffitem_id,available\n a ,false\n", encoding="utf-8")  # as Excel saves it
    assert read_unavailable(path) == ["a"]
    path.write_text("item_id,available\na,0\nb,1\na,0\n")  # twice the same is no contradiction
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
        ("item_id,available\na,0\nb,1\n a,1\n", "lines 2 and 4: item_id 'a' is available in one and not in the other"),
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


def test_the_filter_that_is_tried_on_a_release_leaves_something(small, tmp_path):
    """The list hides every item of the value that the checks ask for; they are to ask for another."""
    before = json.loads((small.path / "assets.extra/contract.json").read_text())
    allow = before["canary"]["allow"]
    lookup = {value.decode(): row for row, value in enumerate(small.servable.filters.values.numpy().tolist(), start=1)}
    holders = (small.servable.filters.values_of.numpy() == lookup[allow]).any(axis=1)[1:]
    replace_mask(
        small.path, tmp_path / "one", [i.decode() for i, holds in zip(small.ids, holders, strict=True) if holds]
    )
    after = json.loads((tmp_path / "one/assets.extra/contract.json").read_text())
    assert after["canary"]["allow"] not in ("", allow)
    assert after == before | {"canary": before["canary"] | {"allow": after["canary"]["allow"]}}
    replace_mask(small.path, tmp_path / "all", [item.decode() for item in small.ids])
    assert json.loads((tmp_path / "all/assets.extra/contract.json").read_text())["canary"]["allow"] == ""


def test_a_servable_packed_before_the_list_changed_is_pushed_with_the_list_that_is_live(small, tmp_path):
    def push_it(servable, **how):
        for part in ("trainer", "statistics", "catalog_statistics", "state", "evaluation"):
            (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / "evaluation/verdict.json").write_text("{}")
        rest = {
            name: tmp_path / name for name in ("trainer", "statistics", "catalog_statistics", "state", "evaluation")
        }
        registry = Registry.at(tmp_path / "registry.sqlite")
        places = (tmp_path / "serving", tmp_path / "releases")
        return push(registry, Parts(servable=servable, **rest), *places, None, run="run", **how)

    gone = small.recommend("ann").ids[0]
    first = push_it(small.path)
    replace_mask(small.path, tmp_path / "sold-out", [gone.decode()])
    released = push_it(tmp_path / "sold-out", copy_of=first.version)
    second = push_it(small.path)  # a run's, packed before
    for version in (released, second):
        assert list_of(Path(version.uri)) == [gone.decode()]
        shown = answers(tf.saved_model.load(version.uri), small.ids)
        assert gone not in shown["recommend"]["item_ids"].numpy().ravel().tolist()
    live = Registry.at(tmp_path / "registry.sqlite").live()
    assert live.version == second.version
    assert live.manifest["availability"]["items_hidden"] == 1
    with pytest.raises(
        EvergreenError, match=f"this is version {released.version} with another list, and {second.version}"
    ):
        push_it(small.path, copy_of=released.version)


def test_a_servable_of_before_is_refused(small, tmp_path):
    module = tf.Module()
    module.item_ids = tf.Variable([""])
    tf.saved_model.save(module, str(tmp_path / "old"))
    (tmp_path / "old/assets.extra").mkdir()
    (tmp_path / "old/assets.extra/release.json").write_text("{}")
    with pytest.raises(BuildError, match="has no may_be_shown and no filters/values to replace"):
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
