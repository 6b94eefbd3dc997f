"""The servable, packed as production packs it, saved, loaded, and asked through its signatures.

The oracle is the Trainer's own model and numpy.
"""

import numpy as np
import pytest
import tensorflow as tf

from components.index_builder.config import IndexConfig
from components.index_builder.users import read_users
from tests.components.index_builder.packed import LOWEST, MAX_HISTORY, build

S, F = tf.string, tf.float32
CONTRACT = {
    "serving_default": ({"user_id": (S, 1)}, {"item_ids": (S, 2), "scores": (F, 2)}),
    "recommend": (
        {"user_id": (S, 1), "history": (S, 2), "exclude": (S, 2), "allow": (S, 2), "device": (S, 1), "hour": (F, 1)},
        {"item_ids": (S, 2), "scores": (F, 2), "retrieval_scores": (F, 2), "reasons": (S, 2)},
    ),
    "similar_items": ({"item_id": (S, 1)}, {"item_ids": (S, 2), "scores": (F, 2)}),
    "rank": ({"user_id": (S, 1), "item_ids": (S, 2)}, {"scores": (F, 2)}),
    "embed_query": ({"user_id": (S, 1)}, {"embedding": (F, 2)}),
    "embed_items": ({"item_id": (S, 1)}, {"embedding": (F, 2)}),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_names_dtypes_and_ranks_are_the_contract(small, name):
    signature = small.servable.signatures[name]
    inputs = {n: (spec.dtype, spec.shape.rank) for n, spec in signature.structured_input_signature[1].items()}
    outputs = {n: (spec.dtype, spec.shape.rank) for n, spec in signature.structured_outputs.items()}
    assert (inputs, outputs) == CONTRACT[name]


def test_answers_have_the_width_k(small):
    assert small.ask("serving_default", user_id=["ann", "?", "bob"]).item_ids.shape == (3, 6)
    answer = small.recommend("ann")
    assert {v.shape for n, v in vars(answer).items() if n != "ids"} == {(1, 6)}
    assert small.ask("similar_items", item_id=["x"]).scores.shape == (1, 6)
    assert small.ask("rank", user_id=["ann"], item_ids=[["a", "b", "c"]]).scores.shape == (1, 3)
    assert small.ask("embed_query", user_id=["ann"]).embedding.shape == (1, 8)
    assert small.contract["top_k"] == 6
    assert [c["name"] for c in small.contract["context"]] == ["device", "hour"]
    assert (small.release["items"], small.release["users"]) == (40, 4)
    assert small.release["warm_started_from"] == 7


def neighbours(packed, signature_ids):
    """Mean share of the true nearest items (by numpy, itself left out) that `similar_items` returns."""
    table = packed.table()
    found = packed.ask("similar_items", item_id=signature_ids).item_ids
    shares = []
    for item_id, row in zip(signature_ids, found.tolist(), strict=True):
        products = table[1:] @ table[packed.rows([item_id])[0]]
        products[packed.rows([item_id])[0] - 1] = -np.inf
        true = {packed.ids[i] for i in np.argsort(-products)[: len(row)]}
        shares.append(len(true & set(row)) / len(true))
    return np.mean(shares)


def test_neighbours_of_a_small_catalog_are_exact(small):
    assert small.release["index"]["kind"] == "exact"
    assert neighbours(small, small.ids) == 1.0
    answer, table = small.ask("similar_items", item_id=[small.ids[4]]), small.table()
    products = [table[5] @ table[row] for row in small.rows(answer.item_ids[0].tolist())]
    np.testing.assert_allclose(answer.scores[0], products, atol=1e-4)
    assert (np.diff(answer.scores[0]) <= 0).all()


def test_a_large_catalog_is_hashed_and_reaches_the_bar(large):
    assert large.release["index"]["kind"] == "scann"
    assert "leaves" in large.release["index"]["effort"]
    assert large.release["index"]["recall"] >= 0.9
    assert neighbours(large, large.ids[::12]) >= 0.85  # items are no queries: the bar is for real queries
    overlap = []
    for row in range(1, 60):
        query = large.query([row], [2])
        got = large.recommend(history=[large.ids[row - 1]]).ids
        assert len(got) == 10
        overlap.append(len(set(got) & set(large.expected(query, [row]))) / 10)
    assert np.mean(overlap) >= 0.9


def test_similar_items_never_returns_the_item_itself(small, large):
    for packed in (small, large):
        found = packed.ask("similar_items", item_id=packed.ids[:40]).item_ids
        assert not any(i in row for i, row in zip(packed.ids, found.tolist(), strict=False))


def test_an_unknown_item_does_not_fail_the_batch_it_stands_in(small):
    answer = small.ask("similar_items", item_id=["nowhere", small.ids[0], ""])
    assert answer.item_ids[[0, 2]].tolist() == [[b""] * 6] * 2
    assert all(answer.item_ids[1])
    assert (answer.scores[[0, 2]] == LOWEST).all()
    ranked = small.ask("rank", user_id=["ann"], item_ids=[[small.ids[3], "nowhere", small.ids[5]]]).scores[0]
    assert ranked[1] == LOWEST
    assert ranked[[0, 2]].min() > LOWEST
    assert not small.ask("embed_items", item_id=["nowhere"]).embedding.any()


def stored(packed, name):
    """Rows and types of a stored user, cut to the model's history, and its transformed features."""
    user = packed.users[name]
    rows = packed.rows([i.encode() for i in user["item_ids"]])[-MAX_HISTORY:]
    types = [{"view": 1, "buy": 2}[t] for t in user["types"]][-MAX_HISTORY:]
    group = {"forward": 1, "back": 2}.get("".join(user["group"]), 0)
    age = (user["age"][0] - 30) / 10 if user["age"] else 0.0  # tests/conftest.py: ages 20 and 40
    likes = [{"rock": 1, "jazz": 2}.get(like, 0) for like in user["likes"]] or [0]  # rock is in it twice, jazz once
    words = packed.transform.vocabulary_by_name("bio")
    bio = [1 + words.index(w) for w in {"ann": [b"the", b"end"], "dan": [b"piano"]}.get(name, [])] or [0]
    face = user["face"] or [0.0, 0.0]
    return rows, types, {"group": group, "age": age, "likes": likes, "bio": bio, "face": face}


@pytest.mark.parametrize("name", ["ann", "bob", "dan"])
def test_parity_with_the_trainers_model_for_a_stored_user(small, name):
    rows, types, features = stored(small, name)
    query = small.query(rows, types, **features)
    np.testing.assert_allclose(small.ask("embed_query", user_id=[name]).embedding[0], query, atol=1e-4)
    answer = small.ask("serving_default", user_id=[name])
    expected = small.expected(query, rows)
    assert answer.item_ids[0].tolist() == expected
    scores = dict(zip(small.ids, small.scores(query), strict=True))
    np.testing.assert_allclose(answer.scores[0], [scores[i] for i in expected], atol=1e-4)
    ranked = small.ask("rank", user_id=[name], item_ids=[small.ids]).scores[0]
    np.testing.assert_allclose(ranked, list(scores.values()), atol=1e-4)


@pytest.mark.parametrize(
    ("device", "hour"), [("phone", 5.0), ("tablet", float("nan")), ("", 1.0), ("fridge", 3.0), ("phone", 0.0)]
)
def test_parity_of_context(small, device, hour):
    # tests/conftest.py: phone is 1, tablet 2; hours have mean 3 and variance 8/7
    z = 0.0 if np.isnan(hour) else (hour - 3) / np.sqrt(8 / 7)
    rows, types, features = stored(small, "ann")
    query = small.query(rows, types, **features, device={"phone": 1, "tablet": 2}.get(device, 0), hour=z)
    answer = small.recommend("ann", device=device, hour=hour)
    scores = dict(zip(small.ids, small.scores(query), strict=True))
    assert answer.ids == small.expected(query, rows)
    np.testing.assert_allclose(answer.scores[0], [scores[i] for i in answer.ids], atol=1e-4)


def test_history_in_the_request_replaces_the_stored_one_and_is_not_recommended(small):
    given = [small.ids[i] for i in (20, 30, 7)]
    rows, _, features = stored(small, "ann")
    query = small.query([21, 31, 8], [2, 2, 2], **features)  # counts as of the strongest type, buy
    answer = small.recommend("ann", history=given)
    assert answer.ids == small.expected(query, [21, 31, 8, *rows])
    assert answer.ids != small.recommend("ann").ids
    assert not set(answer.ids) & set(given)
    assert answer.ids != small.recommend("ann", history=given[::-1]).ids or not np.allclose(
        answer.scores, small.recommend("ann", history=given[::-1]).scores
    )  # order matters


@pytest.fixture(scope="module")
def bought(world, make_catalog, make_model, tmp_path_factory):
    """What was bought is not shown again; what was only viewed is."""
    model = make_model(make_catalog(40), max_history=MAX_HISTORY)
    path = tmp_path_factory.mktemp("bought")
    return build(world, model, path, top_k=40, num_candidates=40, exclude_seen=("buy",))


def test_only_the_types_that_count_as_seen_are_left_out(bought):
    rows, types, _ = stored(bought, "bob")
    hidden = {bought.ids[row - 1] for row, t in zip(rows, types, strict=True) if t == 2}
    assert 0 < len(hidden) < len(rows)
    assert set(bought.ids) - set(bought.recommend("bob").ids) == hidden
    assert set(bought.ids) - set(bought.ask("serving_default", user_id=["bob"]).item_ids[0].tolist()) == hidden
    given = [bought.ids[20], bought.ids[30]]  # of a request: as of the strongest type, buy
    assert set(bought.ids) - set(bought.recommend("stranger", history=given).ids) == set(given)
    example = bought.example([bought.ids[5], bought.ids[6], bought.ids[7]], types=["view", "buy", "buy"])
    shown = bought.ask("evaluate", examples=[example]).rank[0]
    assert 1 <= shown <= 39  # of 40 items, the one that was bought does not compete


def test_where_the_pads_of_a_history_stand_does_not_matter(small):
    a, b = small.ids[20], small.ids[30]
    plain = small.recommend("ann", history=[a, b])
    for padded in (["", a, b], [a, "", b], [a, b, "", ""], ["", "", a, "", b, "", "nowhere"]):
        other = small.recommend("ann", history=padded)
        assert other.ids == plain.ids
        np.testing.assert_allclose(other.scores, plain.scores, atol=1e-5)
    for empty in ([""], ["", "", ""], ["nowhere"]):
        assert small.recommend("ann", history=empty).ids == small.recommend("ann").ids


def test_only_the_newest_of_a_long_history_count_but_all_are_excluded(small):
    given = [small.ids[i] for i in range(10, 20)]
    query = small.query(range(17, 21), [2] * 4)
    answer = small.recommend(history=given)
    assert answer.ids == small.expected(query, range(11, 21))


def test_users_are_padded_to_the_one_with_the_most_values_whatever_batch_it_is_read_in(small, world, tmp_path):
    """More users than are read at once; none but the last has three likes, one of them unknown."""
    empty = {"group": [], "age": [], "bio": [], "face": [], "item_ids": [], "interaction_types": []}
    likes = [["jazz"]] * 5 + [[]] * 4_095 + [["rock", "polka", "jazz"]]
    rows = [{"user_id": [f"u{i}"], "likes": values, **empty} for i, values in enumerate(likes)]
    users = read_users(
        [world.write(tmp_path / "users.gz", rows)], small.model, small.transform.transform_features_layer()
    )
    assert users.features["likes"].shape == (4_102, 3)
    assert users.features["likes"][[0, 1, 6, 4_101]].tolist() == [[0, 0, 0], [2, 0, 0], [0, 0, 0], [1, 0, 2]]
    assert users.features["face"].shape == (4_102, 2)


def genres_of(packed):
    names = [b"", *packed.model.catalog.vocabularies["genres"].tolist()]
    return [{names[g] for g in row if g} for row in packed.model.catalog.features["genres"][1:]]


def studio_of(packed):
    names = [b"", *packed.model.catalog.vocabularies["studio"].tolist()]
    return [names[s] for s in packed.model.catalog.features["studio"][1:]]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("name", ["small", "large"])
def test_never_what_is_unwanted_and_never_fewer_than_possible(request, name, seed):
    """Random exclusions and filters, some that match nothing and some that leave fewer than K."""
    packed = request.getfixturevalue(name)
    size, k = len(packed.ids), packed.config.top_k
    rng = np.random.default_rng(seed)
    user = ["ann", "bob", "cäcilie", "dan", "stranger"][seed % 5]
    exclude = [packed.ids[i] for i in rng.permutation(size)[: rng.choice([0, 3, size // 2, size - 4, size])]]
    genres, studio = genres_of(packed), studio_of(packed)
    wanted = rng.permutation(["Comedy", "Drama", "Noir", "Silent", "Opera"])[: rng.integers(0, 3)].tolist()
    house = ["", "Xenon", "Yale"][rng.integers(0, 3)]
    allow = [f"genres={g}" for g in wanted] + ([f"studio={house}"] if house else [])
    if "Opera" in wanted:  # no such value: it matches nothing
        allowed = np.zeros(size, bool)
    else:
        by_genre = [not wanted or bool(g & {w.encode() for w in wanted}) for g in genres]
        allowed = np.array(by_genre) & np.array([not house or s == house.encode() for s in studio])
    seen = stored(packed, user)[0] if user in packed.users else []
    possible = {i for i, ok in zip(packed.ids, allowed, strict=True) if ok}
    possible -= {*exclude, *(packed.ids[row - 1] for row in seen if row)}
    answer = packed.recommend(user, exclude=exclude, allow=rng.permutation(["", *allow]).tolist())
    assert set(answer.ids) <= possible
    assert len(answer.ids) == len(set(answer.ids)) == min(k, len(possible))
    assert answer.item_ids[0, len(answer.ids) :].tolist() == [b""] * (k - len(answer.ids))  # pads come last
    assert (answer.scores[0, len(answer.ids) :] == LOWEST).all()
    assert np.isfinite(answer.scores).all()
    assert [bool(r) for r in answer.reasons[0]] == [bool(i) for i in answer.item_ids[0]]


def test_a_filter_of_very_many_values_is_no_other(small, large):
    for packed in (small, large):
        values = ["genres=Comedy", "genres=Drama", ""]
        few, many = packed.recommend("ann", allow=values), packed.recommend("ann", allow=values * 50_000)
        assert many.ids == few.ids
        np.testing.assert_allclose(many.scores, few.scores, atol=1e-5)
        assert packed.recommend("ann", allow=[*values * 50_000, "genres=Unheard of"]).ids == []


@pytest.mark.parametrize("allow", [["genres=Comedy", "studio=Yale"], ["genres=Comedy", "genres=Drama"]])
def test_what_a_filter_leaves_is_the_nearest_of_it(large, allow):
    """All but twelve of what it allows are excluded: far fewer than the index is asked for. Some have both values."""
    has = [
        {b"genres=" + g for g in gs} | {b"studio=" + s}
        for gs, s in zip(genres_of(large), studio_of(large), strict=True)
    ]
    wanted = {value.encode() for value in allow}
    query = large.query([1], [2])
    nearest = np.argsort(-large.table()[1:] @ query)
    kept = [i for i in nearest if wanted <= has[i]][20:32]
    out = [large.ids[i] for i, values in enumerate(has) if values & wanted and i not in kept]
    answer = large.recommend(history=[large.ids[0]], exclude=out, allow=allow)
    allowed = np.isin(np.arange(len(large.ids)), kept)
    assert answer.ids == large.expected(query, [1], allowed)
    values = dict(zip(large.ids, large.table()[1:] @ query, strict=True))
    np.testing.assert_allclose(answer.retrieval_scores[0], [values[i] for i in answer.ids], rtol=1e-4)


def test_ten_thousand_exclusions_are_as_good_as_one(large):
    exclude = [f"unheard-of {n}" for n in range(10_000)] + [large.ids[8]]
    assert large.recommend("ann", exclude=exclude).ids == large.recommend("ann", exclude=[large.ids[8]]).ids


@pytest.mark.parametrize("name", ["small", "large"])
def test_each_request_of_a_batch_is_answered_by_itself(request, name):
    packed = request.getfixturevalue(name)
    users, exclude = ["ann", "stranger", "bob"], [["", ""], [packed.ids[8], ""], [packed.ids[9], packed.ids[10]]]
    allow, history = [["genres=Comedy"], [""], ["genres=Opera"]], [[""], [""], [packed.ids[30]]]
    together = packed.ask(
        "recommend",
        user_id=users,
        history=history,
        exclude=exclude,
        allow=allow,
        device=["phone", "", ""],
        hour=[2.0, float("nan"), 1.0],
    )
    for i, (device, hour) in enumerate([("phone", 2.0), ("", float("nan")), ("", 1.0)]):
        alone = packed.recommend(users[i], history[i], exclude[i], allow[i], device, hour)
        assert [x for x in together.item_ids[i].tolist() if x] == alone.ids


def test_an_unknown_user_gets_the_popular_items_modulated_by_the_ranker(small):
    query = small.query([], [])
    popularity = small.model.catalog.popularity[1:]
    share = (popularity + 1) / (popularity + 1).sum()
    scores = np.log(share) + small.worth(query)
    most_popular = np.argsort(-popularity)[:15]  # C candidates by popularity, then ranked
    expected = [small.ids[i] for i in sorted(most_popular, key=lambda i: -scores[i])[:6]]
    for user in ("stranger", ""):
        answer = small.recommend(user)
        assert answer.ids == expected
        assert set(answer.reasons[0].tolist()) == {b"source=popular"}
        by_id = dict(zip(small.ids, scores, strict=True))
        np.testing.assert_allclose(answer.scores[0], [by_id[i] for i in answer.ids], atol=1e-4)
    ranked = small.ask("rank", user_id=["stranger"], item_ids=[small.ids]).scores[0]
    np.testing.assert_allclose(ranked, scores, atol=1e-4)


def test_a_known_user_of_whom_nothing_is_known_any_more_gets_popular_items(small):
    answer = small.recommend("cäcilie")
    assert len(answer.ids) == 6
    assert set(answer.reasons[0].tolist()) == {b"source=popular"}


def test_reasons_name_the_history_item_that_is_nearest(small):
    table = small.table()
    answer = small.recommend(history=[small.ids[20], small.ids[30]])
    for item, reason in zip(answer.ids, answer.reasons[0].tolist(), strict=True):
        row = small.rows([item])[0]
        nearest = max((21, 31), key=lambda past: table[past] @ table[row])
        assert reason == b"source=personal;because=" + small.ids[nearest - 1]


def test_the_evaluated_rank_is_the_position_in_the_served_list(small):
    history = [small.ids[i] for i in (20, 30, 7)]
    served = small.recommend(history=history).ids
    examples = [small.example([*history, target]) for target in small.ids]
    ranks = small.ask("evaluate", examples=examples).rank
    for target, rank in zip(small.ids, ranks, strict=True):
        assert rank == served.index(target) + 1 if target in served else rank > 6
    assert sum(rank <= 6 for rank in ranks) == 6
    assert sum(rank == 41 for rank in ranks) >= 40 - 15  # not among the C candidates: behind all N items


def test_an_evaluated_example_does_not_depend_on_the_batch_it_stands_in(small):
    """A short history beside a long one is padded, and the padding must not become history: that would be a leak."""
    rng = np.random.default_rng(4)
    examples = []
    for length in (1, 2, 3, 5, 11):
        items = [small.ids[i] for i in rng.permutation(40)[:length]]
        types = rng.choice(["view", "buy"], length).tolist()
        user = {"group": ["back"], "likes": ["rock", "jazz"][: length % 3], "face": [0.5, 1.0] if length % 2 else []}
        examples.append(small.example(items, types=types, device="phone", hour=5.0, **user))
    together = small.ask("evaluate", examples=examples)
    for i, example in enumerate(examples):
        alone = small.ask("evaluate", examples=[example])
        for name in vars(together):
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name)[0], abs=1e-4), (name, i)
    assert together.history_length.tolist() == [0, 1, 2, 4, 10]


def test_evaluate_knows_popularity_and_unknown_targets(small):
    popularity = small.model.catalog.popularity[1:]
    most = small.ids[int(np.argmax(popularity))]
    answer = small.ask("evaluate", examples=[small.example([small.ids[0], most]), small.example([small.ids[0], "zz"])])
    assert answer.target_popularity.tolist() == [1, 41]
    assert answer.popularity_rank.tolist() == [1, 41]
    assert answer.rank[1] == 41


def test_a_catalog_of_one_item_and_a_k_beyond_it(single):
    assert single.recommend("stranger").ids == single.ids
    assert single.recommend(history=[single.ids[0]]).ids == []  # there is nothing else
    assert single.ask("similar_items", item_id=single.ids).item_ids.tolist() == [[b""]]
    assert single.contract["top_k"] == 1


def test_fewer_candidates_than_answers_is_refused():
    with pytest.raises(ValueError, match=r"num_candidates is 5; it must be at least top_k \(10\)"):
        IndexConfig(num_candidates=5, top_k=10)
