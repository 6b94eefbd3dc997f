"""Makes calls that wait at the same time together: one call of the model for many requests.

    batcher = Batcher(BatchingConfig())
    outputs = await batcher.predict(model, "recommend", inputs)     # from any event loop
    batcher.close()

Nobody waits for company: a free worker takes what is there, at most `max_batch_size` rows of one model and signature.
Alone a request is made at once; under load the batches grow by themselves. What a batch's calls have in common is a
key: model, signature, and the shapes behind the rows. Inputs that the model says may be padded ('' in its contract) go
together at different widths, if these are of about one size. A request of more rows is made in parts, one after the
other, and others have their turns between: they wait for a part, not for all. So a signature whose first dimension is
open has to treat each row by itself; what else it does is noticed only where the shape of a part's answer shows it.

A request with a bad value fails alone: the calls of a batch that failed are made one by one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from serving.errors import DeadlineExceeded, Overloaded, ServingError
from serving.limits import BatchingConfig
from serving.model import ServedModel
from serving.signature import Arrays, Signature

log = logging.getLogger(__name__)

NARROW = 64  # columns: up to here padding costs less than another call
Key = tuple[object, ...]


@dataclass(eq=False)
class _Call:
    """One request that waits."""

    model: ServedModel
    signature: Signature
    inputs: Arrays
    output_filter: Sequence[str]
    rows: int
    deadline: float  # on the monotonic clock
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Arrays]
    result: Arrays | Exception | None = None
    begun: float = field(default_factory=time.monotonic)


class Batcher:
    """Worker threads over one bounded queue for all models of a server."""

    def __init__(
        self, config: BatchingConfig, observe: Callable[[str, int, float], None] = lambda signature, rows, waited: None
    ) -> None:
        """`observe` is told of each call of a model: signature, rows, seconds that its oldest request waited."""
        self.config = config
        self._observe = observe
        self._waiting: OrderedDict[Key, deque[_Call]] = OrderedDict()
        self._rows = 0
        self._changed = threading.Condition()
        self._is_closed = False
        names = [f"batch {number}" for number in range(config.num_batch_threads)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    async def predict(
        self,
        model: ServedModel,
        signature: Signature,
        inputs: Arrays,
        output_filter: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> Arrays:
        """As Model.predict, together with others.

        Raises:
            Overloaded: too many rows wait already.
            DeadlineExceeded: the time was over before a worker was free.
            InvalidInput, ModelFailed: as Model.predict.
        """
        signature.check_inputs(inputs)
        signature.check_output_filter(output_filter)
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else float("inf")
        rows, at_most = _rows(signature, inputs), self.config.max_batch_size
        whole = _Call(model, signature, inputs, output_filter, rows or 1, deadline, loop, loop.create_future())
        if rows is None or rows <= at_most:
            return await self._made(whole, is_alone=rows is None)
        parts: list[Arrays] = []
        for begin in range(0, rows, at_most):
            some = {name: value[begin : begin + at_most] for name, value in inputs.items()}
            size = min(at_most, rows - begin)
            part = replace(whole, inputs=some, rows=size, future=loop.create_future(), begun=time.monotonic())
            outputs = await self._made(part, is_begun=bool(parts))
            shapes = {name: (size, *value.shape[1:]) for name, value in (parts or [outputs])[0].items()}
            if any(value.shape != shapes[name] for name, value in outputs.items()):  # what it says is of all rows
                return await self._made(replace(whole, begun=time.monotonic()), is_alone=True, is_begun=True)
            parts.append(outputs)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def _made(self, call: _Call, is_alone: bool = False, is_begun: bool = False) -> Arrays:
        """Queues a call, and waits; of a request that has begun no further part is refused."""
        with self._changed:
            if self._is_closed:
                raise Overloaded("the server is stopping; ask another one")
            if not is_begun and self._rows + call.rows > max(self.config.max_waiting_rows, call.rows):
                raise Overloaded(
                    f"{self._rows} rows wait for a model, at most {self.config.max_waiting_rows} may; try again later"
                )
            self._rows += call.rows
            key = (id(call),) if is_alone else _key(call)
            self._waiting.setdefault(key, deque()).append(call)
            self._changed.notify()
        return await call.future

    def close(self) -> None:
        """Makes the calls that wait, takes no more, and ends the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next():
            try:
                with batch[0].model.users:  # a caller who goes away no longer holds it
                    self._make(batch)
            except Exception as error:
                log.exception("a batch failed")
                for call in batch:
                    call.result = call.result if call.result is not None else error
            _answer(batch)

    def _next(self) -> list[_Call]:
        """The calls that are made next, the oldest key first; nothing when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return []
            key = next(iter(self._waiting))
            if self.config.batch_timeout_micros:
                until = self._waiting[key][0].begun + self.config.batch_timeout_micros / 1e6
                self._changed.wait_for(lambda: self._is_full(key), max(0.0, until - time.monotonic()))
            return self._take(key)

    def _is_full(self, key: Key) -> bool:
        return sum(call.rows for call in self._waiting.get(key, ())) >= self.config.max_batch_size or self._is_closed

    def _take(self, key: Key) -> list[_Call]:
        calls = self._waiting.get(key, deque())
        batch: list[_Call] = []
        rows = 0
        while calls and (not batch or rows + calls[0].rows <= self.config.max_batch_size):
            batch.append(calls.popleft())
            rows += batch[-1].rows
        self._rows -= rows
        if calls:
            self._waiting.move_to_end(key)  # the next one's turn
        else:
            self._waiting.pop(key, None)
        return batch

    def _make(self, batch: list[_Call]) -> None:
        now = time.monotonic()
        for call in batch:
            if call.deadline <= now:
                call.result = DeadlineExceeded("the deadline passed before the model was free; it serves as it can")
        wanted = [call for call in batch if call.result is None and not call.future.cancelled()]
        if not wanted:
            return
        first = wanted[0]
        self._observe(first.signature.name, sum(call.rows for call in wanted), now - first.begun)
        if len(wanted) > 1:
            try:
                outputs = first.model.call(first.signature, _together(wanted))
            except ServingError:
                outputs = {}
            if all(value.ndim and len(value) == sum(call.rows for call in wanted) for value in outputs.values()):
                begin = 0
                for call in wanted if outputs else ():
                    names = call.output_filter or call.signature.outputs
                    call.result = {name: outputs[name][begin : begin + call.rows] for name in names}
                    begin += call.rows
        for call in wanted:
            if call.result is None:
                try:
                    call.result = call.model.call(call.signature, call.inputs, call.output_filter)
                except ServingError as error:
                    call.result = error


def _answer(batch: list[_Call]) -> None:
    """Hands the results over, with one wake-up for each event loop."""
    of_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in batch:
        of_loop.setdefault(call.loop, []).append(call)
    for loop, calls in of_loop.items():
        try:
            loop.call_soon_threadsafe(_set_results, calls)
        except RuntimeError:
            log.warning("%d answers have nobody to go to: the server has ended", len(calls))


def _set_results(calls: list[_Call]) -> None:
    for call in calls:
        if call.future.done():  # the client went away
            continue
        if isinstance(call.result, Exception):
            call.future.set_exception(call.result)
        else:
            call.future.set_result(call.result or {})


def _rows(signature: Signature, inputs: Mapping[str, np.ndarray]) -> int | None:
    """Rows of a request whose inputs and outputs all begin with that dimension; None where they do not."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    if not inputs or any(not spec.shape or spec.shape[0] is not None for spec in specs):
        return None
    sizes = {len(value) for value in inputs.values()}
    return sizes.pop() or None if len(sizes) == 1 else None


def _key(call: _Call) -> Key:
    shapes = []
    for name in call.signature.inputs:
        columns = call.inputs[name].shape[1:]
        if name in call.model.padded_inputs:
            columns = tuple(0 if size <= NARROW else size.bit_length() for size in columns)
        shapes.append(columns)
    return (id(call.model), call.signature.name, *shapes)


def _together(calls: list[_Call]) -> Arrays:
    """The rows of all calls, one after the other; what is narrower is padded with ''."""
    inputs: Arrays = {}
    for name in calls[0].signature.inputs:
        parts = [call.inputs[name] for call in calls]
        if len({part.shape[1:] for part in parts}) > 1:
            width = max(part.shape[1] for part in parts)
            parts = [_widened(part, width) for part in parts]
        inputs[name] = np.concatenate(parts)
    return inputs


def _widened(part: np.ndarray, width: int) -> np.ndarray:
    wide = np.full((len(part), width), b"", dtype=object)
    wide[:, : part.shape[1]] = part
    return wide
