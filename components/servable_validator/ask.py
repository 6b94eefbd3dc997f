"""One question per function: asks a served model by gRPC and returns what is wrong with the answers, in words."""

import statistics
import time
from collections.abc import Callable

from components.servable_validator import judge
from components.servable_validator.requests import Requests
from serving.client import Client

Question = Callable[[Client, Requests], list[str]]


def ask_default(client: Client, requests: Requests) -> list[str]:
    """`serving_default` fills K places for known and unknown users."""
    answer = client.predict("serving_default", {"user_id": requests.users})
    return _wrong_lists(answer, requests, ("item_ids", "scores"), is_full=True)


def ask_recommend(client: Client, requests: Requests) -> list[str]:
    """`recommend` without conditions, with a filter and with a history that is too long answers in its shapes."""
    outputs = ("item_ids", "scores", "retrieval_scores", "reasons")
    wrong = _wrong_lists(client.predict("recommend", requests.recommend()), requests, outputs, is_full=True)
    allowed = client.predict("recommend", requests.recommend(allow=requests.contract.canary.allow))
    wrong += [f"with allow: {words}" for words in _wrong_lists(allowed, requests, outputs, is_full=False)]
    long = client.predict("recommend", requests.recommend(history=requests.long_history()))
    return wrong + [f"with a long history: {words}" for words in _wrong_lists(long, requests, outputs, is_full=False)]


def ask_exclude(client: Client, requests: Requests) -> list[str]:
    """What a user has excluded does not come back to this user."""
    first = client.predict("recommend", requests.recommend())["item_ids"][:, :3]
    exclude = [[item.decode() for item in row] for row in first.tolist()]
    second = client.predict("recommend", requests.recommend(exclude=exclude))
    wrong = []
    for user, row, excluded in zip(requests.users, second["item_ids"], first.tolist(), strict=True):
        wrong += judge.wrong_items(row, set(excluded) - {b""}, f"though {user} excluded it")
        wrong += [] if (row != b"").any() else [f"{user} gets no item after three were excluded"]
    return wrong


def ask_history(client: Client, requests: Requests) -> list[str]:
    """Two histories give two answers, for every user."""
    items = requests.contract.canary.item_ids
    one, other = (client.predict("recommend", requests.recommend(history=[item])) for item in (items[0], items[-1]))
    return [
        f"{user} gets the same answer after {items[0]} as after {items[-1]}"
        for row, user in enumerate(requests.users)
        if not judge.differences({key: one[key][row] for key in one}, {key: other[key][row] for key in other})
    ]


def ask_similar(client: Client, requests: Requests) -> list[str]:
    """`similar_items` never names the item itself; an unknown item gets a row of empty strings."""
    answer = client.predict("similar_items", {"item_id": requests.items})
    shape = (len(requests.items), requests.contract.top_k)
    if wrong := judge.wrong_shapes(answer, {"item_ids": shape, "scores": shape}):
        return wrong
    rows = list(zip(requests.items, answer["item_ids"], answer["scores"], strict=True))
    for item, item_ids, scores in rows[:-1]:
        wrong += judge.wrong_list(item_ids, scores, f"item {item}", is_full=False)
        wrong += judge.wrong_items(item_ids, [item.encode()], "though it was asked about")
    if (rows[-1][1] != b"").any():
        wrong.append("an unknown item gets similar items; expected empty strings")
    return wrong


def ask_rank(client: Client, requests: Requests) -> list[str]:
    """`rank` scores the items as given, the unknown one in the middle lowest."""
    known, unknown = list(requests.contract.canary.item_ids), requests.items[-1]
    items = [known[0], unknown, *known[1:]]
    answer = client.predict("rank", {"user_id": requests.users, "item_ids": [items] * len(requests.users)})
    if wrong := judge.wrong_shapes(answer, {"scores": (len(requests.users), len(items))}):
        return wrong
    return [
        f"for {user}: {words}"
        for user, scores in zip(requests.users, answer["scores"], strict=True)
        for words in judge.wrong_ranks(scores, 1)
    ]


def ask_embeddings(client: Client, requests: Requests) -> list[str]:
    """`embed_query` and `embed_items` give finite vectors of D dimensions."""
    wrong = []
    for name, inputs in (
        ("embed_query", {"user_id": requests.users}),
        ("embed_items", {"item_id": list(requests.contract.canary.item_ids)}),
    ):
        answer = client.predict(name, inputs)
        shape = (len(next(iter(inputs.values()))), requests.contract.embedding_dim)
        found = judge.wrong_shapes(answer, {"embedding": shape}) or judge.wrong_embeddings(answer["embedding"])
        wrong += [f"{name}: {words}" for words in found]
    return wrong


def ask_both_protocols(client: Client, requests: Requests) -> list[str]:
    """Every signature gives the same answer by gRPC and by REST."""
    return [
        f"{name} differs in {', '.join(found)}"
        for name, inputs in requests.of_each_signature().items()
        if (found := judge.differences(client.predict(name, inputs), client.predict_rest(name, inputs)))
    ]


def measure_p50_ms(
    client: Client, requests: Requests, count: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Signature → median of `count` single requests by gRPC, after one that is not counted."""
    medians = {}
    for name, inputs in requests.singles().items():
        client.predict(name, inputs)
        taken = []
        for _ in range(count):
            begun = clock()
            client.predict(name, inputs)
            taken.append(1000 * (clock() - begun))
        medians[name] = round(statistics.median(taken), 3)
    return medians


def _wrong_lists(answer: judge.Answer, requests: Requests, outputs: tuple[str, ...], *, is_full: bool) -> list[str]:
    shape = (len(requests.users), requests.contract.top_k)
    if wrong := judge.wrong_shapes(answer, dict.fromkeys(outputs, shape)):
        return wrong
    rows = zip(requests.users, answer["item_ids"], answer["scores"], strict=True)
    is_ordered = requests.contract.is_ordered_by_score
    return [
        words
        for user, items, scores in rows
        for words in judge.wrong_list(items, scores, user, is_full=is_full, is_ordered=is_ordered)
    ]
