"""Probes a servable the way production runs it: a server process, gRPC and REST, known and unknown ids.

A servable that fails, or a server that does not start, is a verdict in the report; nothing is raised for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from components.errors import ServableError
from components.servable_validator import ask
from components.servable_validator.config import ServableContract, ValidatorConfig
from components.servable_validator.requests import Requests
from components.servable_validator.serve import serve
from serving.client import Client
from serving.errors import RequestFailed

CONTRACT_PATH = "assets.extra/contract.json"
QUOTED = 3

QUESTIONS: dict[str, tuple[ask.Question, str]] = {
    "serving_default": (ask.ask_default, "known and unknown users get full lists, ordered by finite scores"),
    "recommend": (ask.ask_recommend, "answers without conditions, with a filter, and with a long history"),
    "exclude": (ask.ask_exclude, "excluded items stay away"),
    "history": (ask.ask_history, "another history gives another answer"),
    "similar_items": (ask.ask_similar, "known items get others, an unknown one gets empty strings"),
    "rank": (ask.ask_rank, "an unknown item scores lowest and does not fail its batch"),
    "embeddings": (ask.ask_embeddings, "users and items have finite embeddings"),
    "gRPC = REST": (ask.ask_both_protocols, "every signature answers the same by both"),
}


@dataclass(frozen=True)
class Check:
    """One thing that a servable must do, and whether it did."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Report:
    """All checks; `p50_ms` is the median latency of each signature in milliseconds, empty when nothing was timed."""

    checks: tuple[Check, ...]
    p50_ms: dict[str, float] = field(default_factory=dict)

    @property
    def is_blessed(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """The sentences of the checks that failed."""
        return [check.sentence for check in self.checks if not check.passed]

    def to_json(self) -> dict[str, Any]:
        """The report as it stands in `report.json`."""
        checks = [asdict(check) for check in self.checks]
        return {"is_blessed": self.is_blessed, "reasons": self.reasons, "checks": checks, "p50_ms": self.p50_ms}


def probe(servable: Path, config: ValidatorConfig) -> Report:
    """Serves the SavedModel at `servable`, asks every question, and says what it answered."""
    try:
        requests = Requests(_read_contract(servable))
    except ServableError as error:
        return Report((Check("contract", False, str(error)),))
    checks = [Check("contract", True, f"contract: {CONTRACT_PATH} says what to ask")]
    try:
        with serve(servable, config.load_timeout_seconds) as client:
            checks.append(Check("load", True, "load: a model server loads it and warms it up"))
            checks += [_ask(name, client, requests) for name in QUESTIONS]
            p50_ms, latency = _latency(client, requests, config)
    except ServableError as error:
        return Report((*checks, Check("load", False, f"load: {error}")))
    return Report((*checks, *latency), p50_ms)


def _read_contract(servable: Path) -> ServableContract:
    try:
        return TypeAdapter(ServableContract).validate_json((servable / CONTRACT_PATH).read_bytes())
    except OSError as error:
        raise ServableError(f"contract: the servable has no {CONTRACT_PATH} ({error.strerror})") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())
        raise ServableError(f"contract: {CONTRACT_PATH} is not as expected: {wrong}") from error


def _ask(name: str, client: Client, requests: Requests) -> Check:
    question, good = QUESTIONS[name]
    wrong = _answered(lambda: question(client, requests))
    if not wrong:
        return Check(name, True, f"{name}: {good}")
    more = f"; and {len(wrong) - QUOTED} more" if len(wrong) > QUOTED else ""
    return Check(name, False, f"{name}: {'; '.join(wrong[:QUOTED])}{more}")


def _answered(question: Callable[[], list[str]]) -> list[str]:
    try:
        return question()
    except RequestFailed as error:
        return [str(error)]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        return [f"the answer has other outputs, types or shapes than the signature promises ({error!r})"]


def _latency(client: Client, requests: Requests, config: ValidatorConfig) -> tuple[dict[str, float], list[Check]]:
    try:
        p50_ms = ask.measure_p50_ms(client, requests, config.requests_per_signature)
    except RequestFailed as error:
        return {}, [Check("latency", False, f"latency: not measured, because {error}")]
    return p50_ms, list(_judge_latency(p50_ms, config.max_p50_ms))


def _judge_latency(p50_ms: dict[str, float], max_p50_ms: float) -> Iterator[Check]:
    slowest = max(p50_ms, key=lambda name: p50_ms[name])
    sentence = f"latency: the slowest p50 is {p50_ms[slowest]:.1f} ms, of {slowest}; {max_p50_ms:g} ms is allowed"
    yield Check("latency", p50_ms[slowest] <= max_p50_ms, sentence)
