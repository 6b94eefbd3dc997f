"""`evergreen spans condemn` and `evergreen models trace` over a small real registry."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipeline.commands.spans import spans, trace
from serving.errors import RegistryError
from serving.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Version 200, live, stems from 100."""
    registry = Registry.at(tmp_path / "shop" / "registry.sqlite")
    for version, learned, parent in ((100, "1", None), (200, "12", 100)):
        manifest = {"lineage": {"learned": {span: f"print {span}" for span in learned}}, "warm_started_from": parent}
        registry.begin_push(version, "there", manifest, {}, {})
        registry.finish_push(version, "pipeline", "better")
    for span in (1, 2):
        registry.record_span(span, "learned", {"fingerprint": f"print {span}", "version": 200}, "run")
    return registry


def said(home: Path, command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"EVERGREEN_HOME": str(home), "LOGNAME": "ann", "COLUMNS": "160"})


def test_a_condemned_span_and_what_follows_are_told(registry: Registry, tmp_path: Path) -> None:
    done = said(tmp_path, spans, "condemn", "2", "--why", "a crawler")
    assert done.exit_code == 0, done.exception
    assert done.output.splitlines() == [
        "span 2 is condemned: it is left out until its files are others",
        "version 200 learned span 2, condemned by ann: a crawler",
        "it is served until a better one is, or until evergreen rollback takes it out of service",
        "the next run starts from version 100",
    ]
    assert registry.live().version == 200  # what is served is another decision
    listed = said(tmp_path, spans)
    assert "condemned by ann: a crawler; by version 200" in listed.output
    assert "the next run starts from nothing" in said(tmp_path, spans, "condemn", "1", "--why", "x").output


def test_a_span_that_the_live_version_did_not_learn_changes_no_start(registry: Registry, tmp_path: Path) -> None:
    registry.record_span(3, "pending", {"fingerprint": "print 3"}, "run")
    done = said(tmp_path, spans, "condemn", "3", "--why", "a crawler")
    assert done.output == "span 3 is condemned: it is left out until its files are others\n"


def test_it_wants_a_reason_and_a_span_that_was_judged(registry: Registry, tmp_path: Path) -> None:
    assert said(tmp_path, spans, "condemn", "2").exit_code == 2
    unknown = said(tmp_path, spans, "condemn", "9", "--why", "x").exception
    assert isinstance(unknown, RegistryError)
    assert "span 9 cannot be condemned: no run has judged it yet" in str(unknown)
    assert {record.state for record in registry.spans()} == {"learned"}


def test_what_stems_from_a_span_is_listed(registry: Registry, tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in said(tmp_path, trace, "--span", "1").output.splitlines()]
    assert "100 retired learned it" in lines
    assert "200 live through version 100, which it started from" in lines
    assert said(tmp_path, trace, "--span", "7").output == "no version in the registry has learned span 7\n"
