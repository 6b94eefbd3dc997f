"""Rules of the house: applied to lists by hand, then by a servable and told in its reasons."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from components.errors import BuildError
from components.index_builder.config import Boost, Cap, Rules
from components.index_builder.filters import Filters
from components.index_builder.rules import AppliedRules
from tests.components.index_builder.packed import MAX_HISTORY, build
from trainer.catalog import Catalog

NOTHING = -np.inf
# Five items a..e. Genres: a Comedy and Drama, b Comedy, c none, d Drama, e Comedy. Houses: X, X, X, Y, Y.
CATALOG = Catalog(
    ids=np.array([b"a", b"b", b"c", b"d", b"e"]),
    features={
        "genres": np.array([[0, 0], [1, 2], [1, 1], [0, 0], [2, 0], [1, 0]]),  # b says Comedy twice
        "house": np.array([0, 1, 1, 1, 2, 2]),
    },
    popularity=np.ones(6, np.float32),
    vocabularies={"genres": np.array([b"Comedy", b"Drama"]), "house": np.array([b"X", b"Y"])},
)


def applied(**rules):
    return AppliedRules(Rules(**rules), Filters(CATALOG, ["genres", "house"]), CATALOG.ids.tolist())


def arranged(rules, scores, top_k=3):
    """Items a..e with these scores, in the order shown; those of the K that stand over a cap in capitals."""
    rows = tf.constant([[1, 2, 3, 4, 5]], tf.int64)
    order, is_over = rules.arrange(rows, tf.constant([scores], tf.float32), top_k)
    shown = zip(order.numpy()[0], is_over.numpy()[0], strict=True)
    return "".join(" abcde"[rows.numpy()[0, i]].upper() if over else " abcde"[rows.numpy()[0, i]] for i, over in shown)


def test_without_rules_the_order_is_that_of_the_scores():
    assert arranged(applied(), [1, 5, 3, 2, 4]) == "becda"
    assert applied().keeps_order


def test_pinned_items_come_first_in_their_order_where_they_may_be_shown():
    rules = applied(pinned=("d", "a"))
    assert arranged(rules, [1, 5, 3, 2, 4]) == "dabec"
    assert arranged(rules, [1, 5, 3, NOTHING, 4]) == "abecd"  # d may not be shown here: last
    assert not rules.keeps_order


def test_a_cap_keeps_the_best_of_each_value():
    # by score: b (Comedy), e (Comedy), a (Comedy, Drama), c (none), d (Drama)
    scores = [3, 5, 2, 1, 4]
    rules = applied(caps=(Cap(feature="genres", at_most=1),))
    assert arranged(rules, scores) == "bcdea"  # b; not e, not a; c has no genre; d is the first Drama
    rules = applied(caps=(Cap(feature="genres", at_most=2),))
    assert arranged(rules, scores) == "becad"  # b, e; a would be the third comedy
    assert not rules.keeps_order


def test_two_caps_hold_together_and_where_nothing_is_left_the_best_comes_all_the_same():
    # Comedy once and each house once: b (X); e is a comedy; a too; c is of X; d is Drama of Y
    rules = applied(caps=(Cap(feature="genres", at_most=1), Cap(feature="house", at_most=1)))
    assert arranged(rules, [3, 5, 2, 1, 4], top_k=3) == "bdEac"  # then E, over its cap: the best of the rest


def test_pinned_items_count_for_a_cap_and_are_not_held_back_by_it():
    rules = applied(pinned=("a", "b"), caps=(Cap(feature="genres", at_most=1),))
    assert arranged(rules, [1, 2, 3, 4, 5]) == "abced"  # both comedies; c has no genre; d is Drama, as a is


def test_no_cap_is_broken_while_it_could_be_kept():
    rules = applied(caps=(Cap(feature="genres", at_most=1), Cap(feature="house", at_most=2)))
    genres, houses = ["CD", "C", "", "D", "C"], "XXXYY"
    for scores in itertools.permutations(range(1, 6)):
        shown = arranged(rules, scores, top_k=4)
        for place, item in enumerate(shown[:4]):
            if item.isupper():
                kept = shown[:place].lower()
                rest = shown[place:].lower()
                for other in rest:  # whatever could have stood here would have broken a cap too
                    i = "abcde".index(other)
                    too_many = any(sum(g in genres["abcde".index(k)] for k in kept) >= 1 for g in genres[i])
                    assert too_many or sum(houses["abcde".index(k)] == houses[i] for k in kept) >= 2


def test_boosts_multiply_what_an_item_is_worth():
    rules = applied(
        boosts=(Boost(feature="genres", value="Comedy", factor=3.0), Boost(feature="house", value="X", factor=0.5))
    )
    bonus = rules.bonus(tf.constant([[0, 1, 2, 3, 4, 5]], tf.int64)).numpy()[0]
    # none; a and b: comedies of X; c: of X; d: neither; e: a comedy
    np.testing.assert_allclose(np.exp(bonus), [1, 1.5, 1.5, 0.5, 1, 3], rtol=1e-5)
    assert rules.keeps_order


def test_rules_that_nothing_meets_are_named():
    rules = applied(
        pinned=("zz", "a"), blocked=("yy", "b"), boosts=(Boost(feature="genres", value="Noir", factor=2.0),)
    )
    assert rules.idle == [
        "pinned 'zz': no such item",
        "blocked 'yy': no such item",
        "boost of genres=Noir: no item has it",
    ]
    assert rules.pinned.tolist() == [1]
    assert not rules.bonus(tf.constant([[1, 2, 3]], tf.int64)).numpy().any()


def test_a_rule_about_no_category_is_refused():
    with pytest.raises(BuildError, match=r"name the features \['year'\]; .* which are: genres, house"):
        applied(caps=(Cap(feature="year", at_most=1),))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"pinned": ("a",), "blocked": ("a",)}, r"items \['a'\] are pinned and blocked"),
        ({"boosts": ({"feature": "g", "value": "v", "factor": float("inf")},)}, "finite number"),
        ({"pinned": ("a", "a")}, r"pinned twice: \['a'\]"),
        ({"caps": (Cap(feature="g", at_most=1), Cap(feature="g", at_most=2))}, r"capped twice: \['g'\]"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(rules, words):
    with pytest.raises(ValueError, match=words):
        Rules(**rules)


@pytest.fixture(scope="module")
def ruled(world, make_catalog, make_model, tmp_path_factory):
    model = make_model(make_catalog(40), max_history=MAX_HISTORY)
    ids = [item_id.decode() for item_id in model.catalog.ids.tolist()]
    rules = Rules(
        pinned=(ids[3], ids[30]),
        blocked=(ids[0], ids[1]),
        boosts=(Boost(feature="studio", value="Yale", factor=50.0),),
        caps=(Cap(feature="genres", at_most=2),),
    )
    path = tmp_path_factory.mktemp("ruled")
    return build(world, model, path, top_k=6, num_candidates=15, rules=rules)


def values(packed, feature):
    names = [b"", *packed.model.catalog.vocabularies[feature].tolist()]
    column = packed.model.catalog.features[feature].reshape(41, -1)
    return dict(zip(packed.ids, ({names[v] for v in row if v} for row in column[1:]), strict=True))


def test_a_servable_keeps_its_rules_and_says_so(ruled):
    answer = ruled.recommend("stranger", history=[ruled.ids[20]])
    reasons = [reason.decode() for reason in answer.reasons[0].tolist()]
    assert answer.ids[:2] == [ruled.ids[3], ruled.ids[30]]
    assert [r.split(";")[0] for r in reasons] == ["source=pinned"] * 2 + ["source=personal"] * 4
    assert all(r.endswith(";because=" + ruled.ids[20].decode()) for r in reasons)
    studios, genres = values(ruled, "studio"), values(ruled, "genres")
    unruled = dict(zip(ruled.ids, ruled.scores(ruled.query([21], [2])), strict=True))
    for item, reason, score in zip(answer.ids, reasons, answer.scores[0], strict=True):
        assert (";boost=studio=Yale" in reason) == (b"Yale" in studios[item])
        assert score == pytest.approx(unruled[item] + np.log(50.0 if b"Yale" in studios[item] else 1.0), abs=1e-4)
    assert any("boost" in reason for reason in reasons)
    unpinned = [i for i, r in zip(answer.ids, reasons, strict=True) if "pinned" not in r and ";over_cap" not in r]
    for genre in set().union(*genres.values()):
        among = [item for item in answer.ids if genre in genres[item]]
        assert sum(item in unpinned for item in among) <= 2
    assert ruled.contract["is_ordered_by_score"] is False
    assert ruled.release["rules"]["caps"] == [{"feature": "genres", "at_most": 2}]


def test_blocked_items_are_nowhere(ruled):
    blocked = set(ruled.ids[:2])
    for user in ("ann", "bob", "stranger"):
        assert not blocked & set(ruled.recommend(user).ids)
        assert not blocked & set(ruled.ask("serving_default", user_id=[user]).item_ids[0].tolist())
        assert not blocked & set(ruled.recommend(user, exclude=ruled.ids[5:]).ids)  # also where all is scored
    assert not blocked & set(ruled.ask("similar_items", item_id=ruled.ids).item_ids.ravel().tolist())


def test_what_is_unwanted_is_not_shown_though_pinned(ruled):
    pinned = [ruled.ids[3], ruled.ids[30]]
    assert pinned[0] not in ruled.recommend("stranger", exclude=[pinned[0]]).ids
    assert pinned[1] not in ruled.recommend("stranger", history=[pinned[1]]).ids
    other = "genres=" + next(iter(values(ruled, "genres")[ruled.ids[30]] or {b"Opera"})).decode()
    answer = ruled.recommend("stranger", allow=[other])
    assert all(other.removeprefix("genres=").encode() in values(ruled, "genres")[item] for item in answer.ids)


def test_a_place_without_an_item_has_no_score(ruled):
    answer = ruled.recommend("stranger", exclude=ruled.ids[:38])
    assert 0 < len(answer.ids) < 6
    assert (answer.retrieval_scores[0, len(answer.ids) :] == np.finfo(np.float32).min).all()


def test_the_evaluated_rank_is_the_place_under_the_rules(ruled):
    history = [ruled.ids[i] for i in (20, 10, 7)]
    served = ruled.recommend(history=history).ids
    ranks = ruled.ask("evaluate", examples=[ruled.example([*history, target]) for target in ruled.ids]).rank
    for target, rank in zip(ruled.ids, ranks, strict=True):
        assert rank == served.index(target) + 1 if target in served else rank > 6
