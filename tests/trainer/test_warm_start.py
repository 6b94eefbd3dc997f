"""Warm start: what survives, moves; what is new, starts at zero; what does not fit, changes nothing."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from trainer.catalog import Catalog
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Features
from trainer.model import Recommender
from trainer.optimizer import Moments
from trainer.run import start
from trainer.saved import build, save
from trainer.sequences import SequenceTable
from trainer.warm_start import Change, cold_start, move_rows, place_beside, warm_start


def test_move_rows_by_hand():
    old = np.array([[1.0], [10.0], [20.0], [30.0]])  # unknown, a, b, c
    new = np.array([[0.0], [-1.0], [-2.0], [-3.0]])  # unknown, c, d, a
    moved = move_rows(old, np.array([b"a", b"b", b"c"]), new, np.array([b"c", b"d", b"a"]))
    assert moved[:, 0].tolist() == [1.0, 30.0, -2.0, 10.0]
    assert new[1, 0] == -1.0  # the arguments stay as they were


def subset(catalog, rows, came):
    """The catalog of another day: some rows of `catalog`, in another order, and items that came."""
    index = np.array([0, *rows, *([0] * len(came))])
    ids = np.array([*catalog.ids[np.array(rows) - 1].tolist(), *came])
    vocabularies = {**catalog.vocabularies, "genres": np.array([b"Western", b"Noir", b"Comedy", b"Drama"])}
    features = {name: value[index] for name, value in catalog.features.items()}
    return Catalog(ids, features, catalog.popularity[index], vocabularies)


@pytest.fixture(scope="module")
def production(make_catalog, make_model):
    return make_model(make_catalog(20, seed=1), seed=1)


@pytest.fixture
def model(make_model, production):
    # 17 items stay, all in other rows; 1, 5 and 20 left; two came
    stay = [row for row in range(20, 0, -1) if row not in (1, 5, 20)]
    return make_model(subset(production.catalog, stay, [b"fresh1", b"fresh2"]), seed=2)


def moments_like(model: Recommender, steps: int = 40) -> Moments:
    """Moments that are told apart by variable and by row."""
    rng = np.random.default_rng(5)
    first, second = (
        tuple(rng.uniform(0.5, 1.0, v.shape).astype(np.float32) for v in model.trainable_variables) for _ in range(2)
    )
    return Moments(steps, first, second)


def vectors(model):
    return dict(zip(model.catalog.ids.tolist(), model.candidate_tower.ids.numpy()[1:], strict=True))


def test_surviving_items_keep_their_vectors_and_new_ones_start_at_zero(model, production):
    ledger = warm_start(model, production)
    assert ledger.vocabularies["items"] == Change(stayed=17, came=2, left=3)
    before, after = vectors(production), vectors(model)
    for item_id, vector in after.items():
        if item_id.startswith(b"fresh"):
            assert not vector.any()
        else:
            np.testing.assert_array_equal(vector, before[item_id])
    assert not before.keys() <= after.keys()
    np.testing.assert_array_equal(model.candidate_tower.ids[0], production.candidate_tower.ids[0])


def test_feature_tables_move_by_value_and_a_new_value_keeps_its_own(model, production):
    own = model.candidate_tower.content.tables["genres"].numpy()
    warm_start(model, production)
    old, new = (
        production.candidate_tower.content.tables["genres"].numpy(),
        model.candidate_tower.content.tables["genres"],
    )
    # production: Comedy 1, Drama 2, Noir 3, Silent 4; today: Western 1, Noir 2, Comedy 3, Drama 4
    np.testing.assert_array_equal(new.numpy(), [old[0], own[1], old[3], old[1], old[2]])


def test_everything_else_is_copied(model, production):
    warm_start(model, production)
    by_id = {id(model.candidate_tower.ids), id(model.candidate_tower.content.tables["genres"])}
    compared = 0
    for new, old in zip(model.trainable_variables, production.trainable_variables, strict=True):
        if id(new) not in by_id:
            np.testing.assert_array_equal(new.numpy(), old.numpy(), err_msg=new.name)
            compared += 1
    assert compared == len(production.trainable_variables) - 2
    np.testing.assert_array_equal(model.query_tower.type_scale, production.query_tower.type_scale)
    np.testing.assert_array_equal(model.query_tower.history.lag_logits, production.query_tower.history.lag_logits)


def mismatches(world):
    fewer = dataclasses.replace(world.features, user=world.features.user[:1])
    others = ({"embedding_dim": 6}, {"max_history": 5}, {}, {"graded_types": True}, {"hidden_ratio": 0})
    return [(settings, None if settings else fewer) for settings in others]


def place_of(model, variable):
    return next(n for n, one in enumerate(model.trainable_variables) if one is variable)


def test_moments_move_with_their_rows_and_new_rows_have_none(model, production):
    moments = moments_like(production)
    assert warm_start(model, production, moments).with_moments
    assert model.moments.steps == 40
    items, genres, scale = (
        place_of(model, variable)
        for variable in (
            model.candidate_tower.ids,
            model.candidate_tower.content.tables["genres"],
            model.query_tower.type_scale,
        )
    )
    old_row = {item_id: row for row, item_id in enumerate(production.catalog.ids.tolist(), start=1)}
    for was, moved in ((moments.first, model.moments.first), (moments.second, model.moments.second)):
        np.testing.assert_array_equal(moved[items][0], was[items][0])
        for row, item_id in enumerate(model.catalog.ids.tolist(), start=1):
            expected = was[items][old_row[item_id]] if item_id in old_row else np.zeros(8)
            np.testing.assert_array_equal(moved[items][row], expected)
        # production: Comedy 1, Drama 2, Noir 3, Silent 4; today: Western 1, Noir 2, Comedy 3, Drama 4
        expected = [was[genres][0], np.zeros(8), was[genres][3], was[genres][1], was[genres][2]]
        np.testing.assert_array_equal(moved[genres], expected)
        np.testing.assert_array_equal(moved[scale], was[scale])
    assert not np.array_equal(model.moments.first[items], model.moments.second[items])


def test_every_vocabulary_has_its_line_and_the_ledger_is_left_in_words(model, production, tmp_path):
    ledger = warm_start(model, production)
    # Western came; Silent left; no other vocabulary changed
    assert ledger.vocabularies["genres"] == Change(stayed=3, came=1, left=1)
    assert ledger.vocabularies["studio"] == Change(stayed=2, came=0, left=0)
    assert ledger.vocabularies.keys() == {"items", "genres", "studio", "title", "group", "likes", "bio", "device"}
    ledger.save(tmp_path / "run")
    left = json.loads((tmp_path / "run" / "vocabulary_ledger.json").read_text())
    assert left["vocabularies"]["genres"] == {"stayed": 3, "came": 1, "left": 1}
    assert left["sentences"] == [
        "warm start: 17 items stayed, 2 came, 3 left",
        "the optimizer's state began anew: the model was saved without it",
    ]


def test_after_a_cold_start_everything_came(model):
    ledger = cold_start(model, "there is no model to start from")
    assert ledger.vocabularies["items"] == Change(stayed=0, came=19, left=0)
    assert ledger.sentences == ["cold start: there is no model to start from", "19 items came"]


def test_a_new_item_is_placed_beside_what_surrounds_it_by_hand():
    rows = np.array([[-5.0], [1.0], [10.0], [7.0], [7.0], [7.0]])  # unknown, 1, 2 known; 3, 4, 5 new
    is_new = np.array([False, False, False, True, True, True])
    # 3 stands between 1 and 2: (1 + 10) / 2. The next sequence begins with 1, and that is not beside it.
    # 4 twice: both times 2 is near, and 1 four positions away or more; the unknown item says nothing
    items = np.array([1, 3, 2, 1, 5, 1, 0, 0, 0, 4, 4, 2])
    owners = np.array([0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3])
    placed = place_beside(rows, is_new, items, owners)
    assert placed[:, 0].tolist() == [-5.0, 1.0, 10.0, 5.5, 10.0, 0.0]
    assert rows[3, 0] == 7.0  # the argument stays as it was


def sequences_of(rows):
    starts = np.append(0, np.cumsum([len(r) for r in rows]))
    return SequenceTable(starts=starts, positions={"item_rows": np.concatenate(rows)}, users={})


def plain_model(ids, seed):
    """Of items without features."""
    features = Features(interaction_types={"view": 1.0})
    config = ModelConfig(trainer=TrainerConfig(embedding_dim=8), features=features, max_history=4)
    tf.keras.utils.set_random_seed(seed)
    return build(config, Catalog(np.array(ids), {}, np.ones(len(ids) + 1, np.float32), {}), {})


def test_items_without_features_begin_beside_their_neighbours():
    production = plain_model([b"a", b"b", b"c"], seed=1)
    model = plain_model([b"fresh", b"c", b"b", b"a", b"alone"], seed=2)
    ledger = warm_start(model, production, sequences=sequences_of([[4, 1], [3, 2], [1, 3], [5]]))
    before, after = vectors(production), vectors(model)
    np.testing.assert_allclose(after[b"fresh"], (before[b"a"] + before[b"b"]) / 2, rtol=1e-6)
    assert not after[b"alone"].any()
    assert ledger.placed == 1
    assert ledger.sentences[1] == "1 of the items that came began beside their neighbours in the new sequences"
    for item_id in before:
        np.testing.assert_array_equal(after[item_id], before[item_id])


def test_items_with_features_begin_where_these_put_them(make_model, production):
    model = make_model(subset(production.catalog, [4, 3], [b"fresh"]), seed=2)
    assert warm_start(model, production, sequences=sequences_of([[1, 3, 2]])).placed == 0
    assert not vectors(model)[b"fresh"].any()


@pytest.mark.parametrize("case", range(5))
def test_another_architecture_is_left_untouched(world, make_model, production, case):
    settings, features = mismatches(world)[case]
    if features is None:
        model = make_model(production.catalog, seed=3, **settings)
    else:
        config = dataclasses.replace(production.config, features=features)
        model = build(config, production.catalog, production.side_vocabularies)
    before = [v.numpy() for v in model.trainable_variables]
    ledger = warm_start(model, production, moments_like(production))
    because = ("embedding_dim is 6", "max_history is 5", "features is", "graded_types is True", "hidden_ratio is 0")
    assert because[case] in ledger.cold_because
    assert model.moments is None
    for was, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


STAINED = "version 9 learned span 4, condemned by ann: a crawler"


def test_the_ledger_says_which_version_it_was_and_why_not_the_live_one(model, production, world, tmp_path):
    save(production, tmp_path, world.transform_graph, world.catalog_transform_graph)
    custom = {"production_model": str(tmp_path), "start_version": 7, "start_because": STAINED}
    ledger = start(model, custom, sequences_of([[1, 2]]))
    assert ledger.started_from == 7
    assert ledger.sentences[:2] == [STAINED, "warm start from version 7: 17 items stayed, 2 came, 3 left"]


def test_what_this_code_cannot_read_is_no_start(model, tmp_path):
    (tmp_path / "config.json").write_text('{"trainer": {"of_long_ago": 1}, "max_history": 4}')
    before = [v.numpy() for v in model.trainable_variables]
    custom = {"production_model": str(tmp_path), "start_version": 7, "start_because": STAINED}
    ledger = start(model, custom, sequences_of([[1, 2]]))
    assert (ledger.started_from, ledger.sentences[0]) == (None, STAINED)
    assert ledger.cold_because.startswith("production's model cannot be read by this code: ")
    assert "of_long_ago" in ledger.cold_because
    for was, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


def test_a_start_can_be_switched_off(make_model, production, tmp_path):
    model = make_model(production.catalog, warm_start=False)
    ledger = start(model, {"production_model": str(tmp_path)}, sequences_of([[1, 2]]))
    assert ledger.sentences[0] == "cold start: trainer.warm_start is off"


def test_another_declared_feature_is_a_mismatch_by_value_not_identity(world, make_model, production):
    same = dataclasses.replace(world.features, user=tuple(dataclasses.replace(f) for f in world.features.user))
    model = make_model(production.catalog, seed=3)
    model.config = dataclasses.replace(model.config, features=same)
    assert warm_start(model, production).cold_because is None
