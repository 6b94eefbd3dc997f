"""`evergreen models promote`, over a small real servable: checked, copied, and masked as production is now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from components.availability import list_of, replace_mask
from components.errors import EvergreenError
from components.pusher.push import Parts, push
from components.servable_validator.config import ValidatorConfig
from pipeline.cli import cli
from pipeline.places import Places
from pipeline.release import promote, release_availability
from serving.errors import RegistryError
from serving.registry import Registry
from serving.releases import complete_versions
from tests.components.index_builder.packed import MAX_HISTORY, Packed, build

PATIENT = ValidatorConfig(max_p50_ms=5_000, requests_per_signature=1)
CONFIG = "name: shop\ncontract: {interactions: {types: {view: 1.0}}}\nvalidator: {max_p50_ms: 5000}\n"


@pytest.fixture(scope="module")
def packed(world: Any, make_catalog: Any, make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    model = make_model(make_catalog(40), max_history=MAX_HISTORY)
    return build(world, model, tmp_path_factory.mktemp("servable"), top_k=6, num_candidates=15)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, "shop")


@pytest.fixture
def push_span(packed: Packed, places: Places, tmp_path: Path) -> Callable[..., int]:
    """Pushes the servable as the one that learned up to a span, and with nothing or one item hidden."""

    def push_one(span: int, hidden: list[str] | None = None) -> int:
        run = tmp_path / f"run-{span}"
        for part in ("trainer", "statistics", "catalog_statistics", "state", "evaluation"):
            (run / part).mkdir(parents=True)
            (run / part / "of").write_text(str(span))
        metrics, sentences = {"recall@10": span / 10}, [f"better than before {span}"]
        (run / "evaluation/verdict.json").write_text(json.dumps({"sentences": sentences, "metrics": metrics}))
        replace_mask(packed.path, run / "servable", hidden or [])
        manifest = json.loads((run / "servable/assets.extra/release.json").read_text())
        spans = list(range(1, span + 1))
        manifest |= {"spans": spans, "lineage": {"learned": {str(each): f"print {each}" for each in spans}}}
        (run / "servable/assets.extra/release.json").write_text(json.dumps(manifest))
        registry = Registry.at(places.registry)
        live = registry.live()
        parts = ("servable", "trainer", "statistics", "catalog_statistics", "state", "evaluation")
        return push(
            registry,
            Parts(**{part: run / part for part in parts}),
            places.serving,
            places.releases,
            span,
            run=str(run),
            copy_of=live.version if live and hidden else None,
            now=lambda: 100.0 * span,
        ).version

    return push_one


def evergreen(places: Places, *arguments: str) -> Result:
    environment = {"EVERGREEN_HOME": str(places.home), "LOGNAME": "ann", "EVERGREEN_REGISTRY_URL": None}
    return CliRunner(env=environment).invoke(cli, ["models", *arguments])


def test_a_promoted_version_is_live_again_under_a_new_number_with_what_is_hidden_now(
    packed: Packed, places: Places, push_span: Callable[..., int]
) -> None:
    gone = packed.ids[3].decode()
    push_span(1)
    push_span(2, hidden=[gone])
    registry = Registry.at(places.registry)
    config = places.home / "shop.yaml"
    config.write_text(CONFIG)
    done = evergreen(places, "promote", "100", "--why", "clicks fell since", "--config", str(config))
    assert done.exit_code == 0, done.exception
    live = registry.live()
    assert done.output == f"version {live.version} is live: version 100 again: clicks fell since\n"
    assert live.version > 200
    assert {v.version: v.state for v in registry.versions()} == {live.version: "live", 200: "retired", 100: "retired"}
    assert live.metrics == {"recall@10": 0.1}
    assert live.verdict["sentences"] == ["version 100 again: clicks fell since", "better than before 1"]
    assert (live.manifest["promoted_from"], live.manifest["spans"]) == (100, [1])
    assert list_of(Path(live.uri)) == [gone]
    parts = {path.parent.name for path in (places.releases / str(live.version)).rglob("of") if path.read_text() == "1"}
    assert parts == {"trainer", "interactions", "catalog", "state"}
    line = registry.audit()[-1]
    assert (line.who, line.action, line.from_version, line.to_version) == ("ann", "promote", 200, live.version)
    assert {r.span: r.state for r in registry.spans()} == {1: "learned", 2: "pending"}
    assert list(complete_versions(places.serving)) == [100, 200, live.version]
    assert not list(places.serving.parent.glob(".release-*"))


def test_a_servable_that_fails_the_check_is_not_promoted(places: Places, push_span: Callable[..., int]) -> None:
    push_span(1)
    push_span(2)
    (places.serving / "100/saved_model.pb").write_bytes(b"spoiled since")
    with pytest.raises(EvergreenError, match=r"nothing was pushed; the check says: load: "):
        promote(places.destination, 100, "ann", "clicks fell", PATIENT)
    assert Registry.at(places.registry).live().version == 200


def test_what_cannot_be_promoted_is_refused_with_what_can(places: Places, push_span: Callable[..., int]) -> None:
    for span in (1, 2, 3):
        push_span(span)
    refused = evergreen(places, "promote", "300", "--why", "x").exception
    assert isinstance(refused, RegistryError)
    assert str(refused) == "version 300 cannot be promoted: it is live; retired, and so to be had: 200, 100"
    for place in (places.releases, places.serving):
        shutil.rmtree(place / "200")
        (gone,) = [evergreen(places, "promote", "200", "--why", "x").exception]
        assert isinstance(gone, EvergreenError)
        assert str(gone).startswith("version 200 cannot be promoted: its files are gone; expected ")
    evergreen(places, "quarantine", "100", "--why", "a crawler")
    refused = evergreen(places, "promote", "100", "--why", "x").exception
    assert "it is quarantined already, by ann: a crawler; retired, and so to be had: 200" in str(refused)
    assert evergreen(places, "promote", "200").exit_code == 2  # without a reason
    assert Registry.at(places.registry).live().version == 300


def test_a_release_and_a_promotion_keep_as_many_versions_as_they_are_told(
    packed: Packed, places: Places, push_span: Callable[..., int], tmp_path: Path
) -> None:
    for span in (1, 2, 3):
        push_span(span)
    stock = tmp_path / "stock.csv"
    stock.write_text(f"item_id,available\n{packed.ids[5].decode()},false\n")
    released = release_availability(places.destination, stock, "ann", "sold out", PATIENT, keep_versions=3)
    assert list(complete_versions(places.serving)) == [200, 300, released.version]
    promoted = promote(places.destination, 200, "ann", "clicks fell", PATIENT, keep_versions=2)
    assert list(complete_versions(places.serving)) == [released.version, promoted.version]
    assert list_of(Path(promoted.uri)) == [packed.ids[5].decode()]
    registry = Registry.at(places.registry)
    assert registry.get(200).state == "removed"  # the copy is all that is left of it
    assert registry.live().manifest["promoted_from"] == 200


def test_nothing_in_production_is_one_sentence(places: Places, tmp_path: Path) -> None:
    (tmp_path / "stock.csv").write_text("item_id,available\n")
    with pytest.raises(EvergreenError, match="nothing is in production: run the pipeline once"):
        release_availability(places.destination, tmp_path / "stock.csv", "ann", "x", PATIENT)
