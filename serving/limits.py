"""What a caller may ask of the server at most, and how calls are made together."""

import os
from dataclasses import dataclass, field

from serving.errors import Overloaded, StartFailed


@dataclass(frozen=True, kw_only=True)
class Limits:
    """max_message_bytes        of a request or an answer
    max_connections           requests under way by each protocol; more are refused
    request_timeout_seconds   from the first byte of a request to the model's answer, unless its caller gives less
    keep_alive_seconds        how long an idle REST connection stays open
    """

    max_message_bytes: int = 64 * 2**20
    max_connections: int = 1_000
    request_timeout_seconds: float = 30.0
    keep_alive_seconds: int = 75

    def __post_init__(self) -> None:
        for name in ("max_message_bytes", "max_connections", "request_timeout_seconds", "keep_alive_seconds"):
            if (got := getattr(self, name)) <= 0:
                raise StartFailed(f"{name} must be greater than 0, got {got}")


class Places:
    """For so many requests at the same time, of one event loop: `with places:`."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count

    def __enter__(self) -> None:
        """Takes one. Raises Overloaded when there is none."""
        if not self._free:
            raise Overloaded(f"{self._count} requests are under way, more are not taken; try again later")
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """How calls are made together; rows count, and a request may bring many.

    max_batch_size        rows of one call; a request of more is made in parts, and others have turns between
    batch_timeout_micros  how long a free worker waits for a batch to fill up; 0: not at all
    max_waiting_rows      of all calls together; what comes then is refused (RESOURCE_EXHAUSTED, 429)
    num_batch_threads     calls of models that run at the same time; by default one core is left to the protocols
    """

    max_batch_size: int = 32
    batch_timeout_micros: int = 0
    max_waiting_rows: int = 1_024
    num_batch_threads: int = field(default_factory=lambda: max(1, len(os.sched_getaffinity(0)) - 1))

    def __post_init__(self) -> None:
        least = {"max_batch_size": 1, "batch_timeout_micros": 0, "max_waiting_rows": 1, "num_batch_threads": 1}
        for name, bound in least.items():
            if (got := getattr(self, name)) < bound:
                raise StartFailed(f"{name} must be {bound} or more, got {got}")
