"""A version in a process of its own, with Model's methods: what it does to Python does not stop the calls of others.

    model = load_apart(Path(".../recommender/1700000000"), version=1700000000)
    model.predict("serving_default", {"user_id": np.array([b"42"], dtype=object)})
    model.close()                                     # the process ends, and with it all that it held

Loading a SavedModel holds Python's lock for seconds: in the server's process every call would wait. Children come from
a process that has imported serving/preload.py and does nothing else (multiprocessing's forkserver), so one begins in a
moment and shares that memory. Calls go over pipes, one for each call at the same time; a child whose parent dies ends.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.errors import ModelBroken, ModelFailed, ServingError
from serving.model import Model, ServedModel, load_model
from serving.signature import Arrays, Signature

log = logging.getLogger(__name__)

END_SECONDS = 5.0
P = ParamSpec("P")
T = TypeVar("T")
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["serving.preload"])


class ModelProcess(ServedModel):
    """The parent's side."""

    def __init__(
        self,
        version: int,
        names: Sequence[str],
        signature_defs: Mapping[str, SignatureDef],
        assets: Path,
        process: ForkServerProcess,
        pipes: Sequence[Connection],
    ) -> None:
        super().__init__(version, names, signature_defs, assets)
        self._process = process
        self._has_ended = False
        self._pipes = list(pipes)
        self._free: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for pipe in pipes:
            self._free.put(pipe)

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return not self._has_ended and self._process.is_alive()

    def call(self, signature: Signature, inputs: Mapping[str, np.ndarray], output_filter: Sequence[str] = ()) -> Arrays:
        """As Model.call; ModelFailed too where the process has died."""
        return self._ask((signature.name, dict(inputs), list(output_filter)))

    def warm_up(self) -> None:
        """As Model.warm_up; ModelBroken too where the process dies of it."""
        try:
            self._ask(("", {}, []))
        except ModelFailed as error:
            raise ModelBroken(f"version {self.version} ended its process in its warm-up") from error

    def close(self) -> None:
        """Ends the process."""
        for pipe in self._pipes:
            pipe.close()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, message: tuple[str, dict[str, np.ndarray], list[str]]) -> Arrays:
        pipe = self._free.get()
        try:
            pipe.send(message)
            answer = pipe.recv()
        except (OSError, EOFError) as error:
            self._has_ended = True
            raise ModelFailed(f"version {self.version} has ended; it is started again") from error
        finally:
            self._free.put(pipe)
        if isinstance(answer, ServingError):
            raise answer
        return answer


def load_apart(
    path: Path, version: int, calls: int = 1, intra_op_threads: int = 1, inter_op_threads: int = 1
) -> ServedModel:
    """Loads the SavedModel in a folder, in a process that makes so many calls at the same time.

    Raises ModelBroken, with a message that is fit for callers.
    """
    ours, theirs = zip(*(_CONTEXT.Pipe() for _ in range(calls)), strict=True)
    process = _CONTEXT.Process(
        target=_serve,
        args=(path, version, theirs, intra_op_threads, inter_op_threads),
        name=f"version {version}",
        daemon=True,
    )
    process.start()
    for pipe in theirs:
        pipe.close()
    try:
        told = ours[0].recv()
    except EOFError:
        told = ModelBroken(f"version {version} ended its process while it was loaded")
    if isinstance(told, ServingError):
        process.join()
        raise told
    names, definitions = told
    parsed = {name: SignatureDef.FromString(data) for name, data in definitions.items()}
    return ModelProcess(version, names, parsed, path / "assets.extra", process, ours)


def _serve(path: Path, version: int, pipes: Sequence[Connection], intra_op_threads: int, inter_op_threads: int) -> None:
    """The child: loads, says so on the first pipe, and answers on all until they are closed."""
    import tensorflow as tf

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent says when it is over
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    tf.config.threading.set_intra_op_parallelism_threads(intra_op_threads)
    tf.config.threading.set_inter_op_parallelism_threads(inter_op_threads)
    tf.constant(0)  # TensorFlow's threads are begun, or they would be of the thread that loads, and wait as it does
    try:
        model = _behind_others(load_model, path, version)
    except ModelBroken as error:
        pipes[0].send(error)
        return
    gc.freeze()
    pipes[0].send((list(model.signatures), {k: v.SerializeToString() for k, v in model.signature_defs.items()}))
    threads = [threading.Thread(target=_answer, args=(model, pipe)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for thread_id in os.listdir("/proc/self/task"):  # to give back its memory takes a tenth of a second
        _give_way(int(thread_id))


def _behind_others(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Works in a thread that gives way to all that answer calls, here and in other processes."""

    with ThreadPoolExecutor(1, initializer=_give_way) as pool:
        return pool.submit(work, *args, **kwargs).result()


def _give_way(thread_id: int = 0) -> None:
    """From now on a thread, or this one, runs when a core has nothing else to do; there is no way back."""
    try:
        os.sched_setscheduler(thread_id, os.SCHED_IDLE, os.sched_param(0))
    except ProcessLookupError:
        log.debug("thread %d has ended", thread_id)
    except OSError as error:  # some sandboxes have one class for all
        log.warning("a version does not give way to calls while it is loaded or ends: %s", error)


def _answer(model: Model, pipe: Connection) -> None:
    while True:
        try:
            name, inputs, output_filter = pipe.recv()
        except EOFError:
            return
        try:
            answer: object = {}
            if name:
                answer = model.call(model.signatures[name], inputs, output_filter)
            else:
                _behind_others(model.warm_up)
        except ServingError as error:
            answer = error
        try:
            pipe.send(answer)
        except OSError:
            return
