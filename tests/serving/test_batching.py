"""Calls made together: every answer is what the request gets alone, and nobody pays for another's mistake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.batching import Batcher
from serving.data_plane import Prediction, beside
from serving.errors import DeadlineExceeded, InvalidInput, Overloaded, StartFailed
from serving.limits import BatchingConfig
from serving.model import Model, load_model


class Gate:
    """Holds the calls of a model until it is opened, and notes how many rows each had."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.begun = threading.Semaphore(0)
        self.is_open = threading.Event()

    def of(self, loaded: Model) -> Model:
        """The model behind the gate; its contract says that histories are padded."""

        def gated(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(**inputs: Any) -> Any:
                self.rows.append(len(next(iter(inputs.values()))))
                self.begun.release()
                assert self.is_open.wait(30)
                return function(**inputs)

            return call

        functions = {name: gated(function) for name, function in loaded._functions.items()}
        model = Model(loaded.version, functions, loaded.signature_defs, loaded)
        model.padded_inputs = frozenset({"history"})
        return model


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def model(models: Callable[[int], Path], gate: Gate) -> Model:
    return gate.of(load_model(models(7), 7))


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(BatchingConfig(max_batch_size=4, max_waiting_rows=6, num_batch_threads=1))
    yield batcher
    batcher.close()


def users(*names: str) -> dict[str, np.ndarray]:
    return {"user_id": np.array([name.encode() for name in names], object)}


def with_history(name: str, width: int) -> dict[str, np.ndarray]:
    return {**users(name), "history": np.full((1, width), b"x", object)}


def run(model: Model, batcher: Batcher, gate: Gate, *asked: tuple[str, dict[str, np.ndarray]], **how: Any) -> list[Any]:
    """The first request occupies the one worker; the others come while it is busy. Answers or errors, in order."""

    async def ask() -> list[Any]:
        tasks = []
        for signature, inputs in asked:
            tasks.append(asyncio.create_task(batcher.predict(model, model.signature(signature), inputs, **how)))
            if len(tasks) == 1:
                await asyncio.to_thread(gate.begun.acquire)
        await asyncio.sleep(0)
        gate.is_open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(ask())


def test_what_waits_is_made_together_and_everybody_gets_their_own(model: Model, batcher: Batcher, gate: Gate) -> None:
    names = [("ann",), ("bob",), ("cäcilie", "nobody"), ("ann", "bob")]
    answers = run(model, batcher, gate, *(("serving_default", users(*some)) for some in names))
    assert gate.rows == [1, 3, 2]  # at most 4 rows: the last one's two did not fit
    for some, answer in zip(names, answers, strict=True):
        alone = model.predict("serving_default", users(*some))
        np.testing.assert_array_equal(answer["item_ids"], alone["item_ids"])
        np.testing.assert_array_equal(answer["scores"], alone["scores"])


def test_what_may_be_padded_goes_together_at_any_width(model: Model, batcher: Batcher, gate: Gate) -> None:
    asked = [("recommend", with_history("bob", width)) for width in (1, 1, 3, 0, 9)]
    answers = run(model, batcher, gate, *asked)
    assert gate.rows == [1, 4]
    assert [int(answer["length"][0]) for answer in answers] == [1, 1, 3, 0, 9]  # '' is not counted


def test_a_wide_request_does_not_widen_the_others(model: Model, batcher: Batcher, gate: Gate) -> None:
    run(model, batcher, gate, *(("recommend", with_history("bob", width)) for width in (1, 1, 2_000, 2, 3_000)))
    assert gate.rows == [1, 2, 1, 1]


def test_what_may_not_be_padded_goes_together_at_one_width_only(model: Model, batcher: Batcher, gate: Gate) -> None:
    model.padded_inputs = frozenset()
    run(model, batcher, gate, *(("recommend", with_history("bob", width)) for width in (1, 2, 2, 3)))
    assert gate.rows == [1, 2, 1]


def test_a_bad_value_fails_alone(model: Model, batcher: Batcher, gate: Gate) -> None:
    asked = [("lookup_by_number", {"x": np.array([number], np.float32)}) for number in (0, 1, 99, 2)]
    answers = run(model, batcher, gate, *asked)
    assert gate.rows == [1, 3, 1, 1, 1]
    assert isinstance(answers[2], InvalidInput)
    assert [answers[place]["y"].tolist() for place in (0, 1, 3)] == [[[3, 1]], [[2, 4]], [[1, 2]]]  # conftest.USERS


def test_models_and_signatures_do_not_mix(
    model: Model, batcher: Batcher, gate: Gate, models: Callable[[int], Path]
) -> None:
    other = gate.of(load_model(models(8), 8))

    async def ask() -> list[Any]:
        signature = model.signature("serving_default")
        first = asyncio.create_task(batcher.predict(model, signature, users("ann")))
        await asyncio.to_thread(gate.begun.acquire)
        rest = [batcher.predict(which, signature, users("ann")) for which in (model, other, model)]
        waiting = asyncio.gather(first, *rest)
        await asyncio.sleep(0.05)
        gate.is_open.set()
        return await waiting

    marks = [int(answer["scores"][0, 0]) for answer in asyncio.run(ask())]
    assert marks == [7, 7, 8, 7]
    assert gate.rows == [1, 2, 1]


def test_more_than_may_wait_is_refused_at_once_and_the_rest_is_answered(
    model: Model, batcher: Batcher, gate: Gate
) -> None:
    asked = [("serving_default", users(*["ann"] * rows)) for rows in (1, 4, 2, 1, 1)]
    answers = run(model, batcher, gate, *asked)
    assert [type(answer) for answer in answers] == [dict, dict, dict, Overloaded, Overloaded]
    assert "6 rows wait for a model, at most 6 may" in str(answers[3])
    assert [answer["scores"].shape for answer in answers[:3]] == [(1, 2), (4, 2), (2, 2)]
    gate.rows.clear()
    assert isinstance(run(model, batcher, gate, ("serving_default", users("bob")))[0], dict)  # there is room again


def test_who_cannot_wait_longer_is_not_computed(model: Model, batcher: Batcher, gate: Gate) -> None:
    async def ask() -> list[Any]:
        signature = model.signature("serving_default")
        first = asyncio.create_task(batcher.predict(model, signature, users("ann")))
        await asyncio.to_thread(gate.begun.acquire)
        late = asyncio.create_task(batcher.predict(model, signature, users("bob"), timeout_seconds=0.01))
        await asyncio.sleep(0.05)
        gate.is_open.set()
        return await asyncio.gather(first, late, return_exceptions=True)

    first, late = asyncio.run(ask())
    assert isinstance(first, dict)
    assert isinstance(late, DeadlineExceeded)
    assert gate.rows == [1]


def test_who_goes_away_is_not_computed_and_does_not_unload_what_runs(
    model: Model, batcher: Batcher, gate: Gate
) -> None:
    async def ask() -> None:
        signature = model.signature("serving_default")
        running = asyncio.create_task(batcher.predict(model, signature, users("ann")))
        await asyncio.to_thread(gate.begun.acquire)
        waiting = asyncio.create_task(batcher.predict(model, signature, users("bob")))
        await asyncio.sleep(0)
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert model.users.count == 1  # the worker, in the middle of it
        gate.is_open.set()

    asyncio.run(ask())
    batcher.close()
    assert model.users.count == 0
    assert gate.rows == [1]


def test_what_has_no_rows_goes_alone(model: Model, batcher: Batcher, gate: Gate) -> None:
    answers = run(model, batcher, gate, *(("serving_default", users(*some)) for some in (["ann"], [], ["ann"])))
    assert gate.rows == [1, 0, 1]
    assert [answer["scores"].shape for answer in answers] == [(1, 2), (0, 2), (1, 2)]


def test_who_brings_many_rows_lets_others_in_between(model: Model, batcher: Batcher, gate: Gate) -> None:
    many = ["ann", "bob", "nobody"] * 3
    answers = run(model, batcher, gate, *(("serving_default", users(*some)) for some in (["ann"], many, ["bob"])))
    assert gate.rows == [1, 4, 1, 4, 1]  # the last one came after the nine, and has its answer after four
    for name, value in model.predict("serving_default", users(*many)).items():
        np.testing.assert_array_equal(answers[1][name], value)


def test_a_bad_value_fails_the_request_that_it_is_in(model: Model, batcher: Batcher, gate: Gate) -> None:
    numbers = np.array([0, 1, 2, 0, 1, 99], np.float32)
    answer = run(model, batcher, gate, ("lookup_by_number", {"x": numbers}))[0]
    assert gate.rows == [4, 2]
    assert isinstance(answer, InvalidInput)


def test_a_request_that_has_begun_is_not_refused_in_the_middle(model: Model, batcher: Batcher, gate: Gate) -> None:
    others = [("serving_default", users(*["bob"] * rows)) for rows in (2, 4)]
    answers = run(model, batcher, gate, ("serving_default", users(*["ann"] * 8)), *others)
    assert gate.rows == [4, 2, 4, 4]  # four rows wait when the last four come, and six may
    assert [len(answer["scores"]) for answer in answers] == [8, 2, 4]


def test_what_is_of_all_rows_together_is_made_of_all_rows_together(model: Model, batcher: Batcher, gate: Gate) -> None:
    for numbers in ([1, 2, 2, 3, 4, 1], [1, 2, 3, 4, 1, 1]):  # seen in the first part; in the second
        answer = run(model, batcher, gate, ("distinct", {"x": np.array(numbers, np.float32)}))[0]
        assert answer["y"].tolist() == [1, 2, 3, 4]


def test_what_is_large_is_done_beside_the_event_loop() -> None:
    here = threading.get_ident()
    assert asyncio.run(beside(False, threading.get_ident)) == here != asyncio.run(beside(True, threading.get_ident))
    answers = [Prediction(1, "", {"y": np.zeros([rows, 64])}).is_large for rows in (1, 256, 257)]
    assert answers == [False, False, True]


def test_the_end_answers_what_waits_and_refuses_what_comes(model: Model, batcher: Batcher, gate: Gate) -> None:
    gate.is_open.set()
    run(model, batcher, gate, ("serving_default", users("ann")))
    batcher.close()
    with pytest.raises(Overloaded, match="stopping"):
        asyncio.run(batcher.predict(model, model.signature(), users("ann")))


def test_a_configuration_that_cannot_work_is_refused() -> None:
    with pytest.raises(StartFailed, match="max_batch_size must be 1 or more, got 0"):
        BatchingConfig(max_batch_size=0)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(st.lists(st.sampled_from(["ann", "bob", "x", ""]), min_size=1, max_size=5), st.integers(0, 70)),
        min_size=1,
        max_size=12,
    )
)
def test_any_mix_of_requests_gives_what_each_gets_alone(
    models: Callable[[int], Path], asked: list[tuple[list[str], int]]
) -> None:
    model = load_model(models(7), 7)
    model.padded_inputs = frozenset({"history"})
    batcher = Batcher(BatchingConfig(max_batch_size=8, max_waiting_rows=100, batch_timeout_micros=500))
    requests = [{**users(*names), "history": np.full((len(names), width), b"x", object)} for names, width in asked]

    async def ask() -> list[Any]:
        signature = model.signature("recommend")
        return await asyncio.gather(*(batcher.predict(model, signature, inputs) for inputs in requests))

    try:
        answers = asyncio.run(ask())
    finally:
        batcher.close()
    for inputs, answer in zip(requests, answers, strict=True):
        for name, value in model.predict("recommend", inputs).items():
            np.testing.assert_array_equal(answer[name], value)
