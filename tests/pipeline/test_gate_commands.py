"""`evergreen gate` over a small real registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.commands.gate import gate
from serving.errors import RegistryError
from serving.registry import Registry
from tests.ledger import overrides

REASON = "30 of 100 rows rejected"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry.at(tmp_path / "shop" / "registry.sqlite")
    registry.record_span(4, "learned", {}, "run-1")
    registry.record_span(5, "quarantined", {"decision": "stop", "reasons": [REASON]}, "run-2")
    return registry


def override(*arguments: str, home: Path | None = None) -> Result:
    return CliRunner().invoke(gate, ["override", *arguments], env={"EVERGREEN_HOME": str(home), "LOGNAME": "ann"})


def test_an_accepted_span_is_pending_and_says_who_and_why(registry: Registry, tmp_path: Path) -> None:
    done = override("--span", "5", "--why", "a sale", home=tmp_path)
    assert done.exit_code == 0, done.exception
    assert done.output == "span 5 is accepted: the next run learns it, and its verdict names you and your reason\n"
    assert overrides(registry) == {5: {"who": "ann", "why": "a sale"}}
    last = registry.spans()[-1]
    assert (last.state, last.run, last.verdict["reasons"]) == ("pending", "run-2", [REASON])
    assert [record.state for record in registry.span_records()] == ["learned", "quarantined", "pending"]


def test_on_a_cluster_the_registry_is_named_by_its_url(registry: Registry, tmp_path: Path) -> None:
    done = override("--span", "5", "--why", "x", "--registry-url", registry.url, home=tmp_path / "elsewhere")
    assert done.exit_code == 0, done.exception
    assert set(overrides(registry)) == {5}


def test_only_a_quarantined_span_is_accepted(registry: Registry, tmp_path: Path) -> None:
    done = override("--span", "4", "--why", "x", home=tmp_path)
    assert isinstance(done.exception, RegistryError)
    assert "span 4 needs no override: it is learned" in str(done.exception)
    assert overrides(registry) == {}


@pytest.mark.parametrize("given", [("--span", "5"), ("--why", "x")])
def test_it_wants_a_span_and_a_reason(registry: Registry, tmp_path: Path, given: tuple[str, ...]) -> None:
    assert override(*given, home=tmp_path).exit_code == 2
    assert overrides(registry) == {}


def test_a_span_is_a_number_or_a_date(registry: Registry, tmp_path: Path) -> None:
    day = override("--span", "1970-01-05", "--why", "x", home=tmp_path)  # the fourth day after the first
    assert "span 4 needs no override" in str(day.exception)
    assert "'five' is neither a number nor a date" in str(
        override("--span", "five", "--why", "x", home=tmp_path).exception
    )
