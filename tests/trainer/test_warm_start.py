"""Warm start: what survives, moves; what is new, starts at zero; what does not fit, changes nothing."""

import dataclasses

import numpy as np
import pytest

from trainer.catalog import Catalog
from trainer.warm_start import move_rows, warm_start


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


def vectors(model):
    return dict(zip(model.catalog.ids.tolist(), model.candidate_tower.ids.numpy()[1:], strict=True))


def test_surviving_items_keep_their_vectors_and_new_ones_start_at_zero(model, production):
    ledger = warm_start(model, production)
    assert (ledger.stayed, ledger.came, ledger.left) == (17, 2, 3)
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
    np.testing.assert_array_equal(model.query_tower.types, production.query_tower.types)
    np.testing.assert_array_equal(model.query_tower.history.lag_logits, production.query_tower.history.lag_logits)


def mismatches(world):
    fewer = dataclasses.replace(world.features, user=world.features.user[:1])
    return [({"embedding_dim": 6}, None), ({"max_history": 5}, None), ({}, fewer)]


@pytest.mark.parametrize("case", [0, 1, 2])
def test_another_architecture_is_left_untouched(world, make_model, production, case, caplog):
    settings, features = mismatches(world)[case]
    if features is None:
        model = make_model(production.catalog, seed=3, **settings)
    else:
        from trainer.saved import build

        config = dataclasses.replace(production.config, features=features)
        model = build(config, production.catalog, production.side_vocabularies)
    before = [v.numpy() for v in model.trainable_variables]
    with caplog.at_level("INFO", logger="evergreen.trainer"):
        assert warm_start(model, production) is None
    assert ("embedding_dim is 6", "max_history is 5", "features is")[case] in caplog.text
    for was, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


def test_another_declared_feature_is_a_mismatch_by_value_not_identity(world, make_model, production):
    same = dataclasses.replace(world.features, user=tuple(dataclasses.replace(f) for f in world.features.user))
    model = make_model(production.catalog, seed=3)
    model.config = dataclasses.replace(model.config, features=same)
    assert warm_start(model, production) is not None
