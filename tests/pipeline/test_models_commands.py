"""`evergreen models show | compare | audit | rollback | quarantine | clean` over a small registry and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from components.errors import EvergreenError
from pipeline.cli import cli
from serving.errors import RegistryError
from serving.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Four versions, 400 live, each with its files."""
    root = tmp_path / "shop"
    registry = Registry.at(root / "registry.sqlite", now=lambda: 1_700_000_000.0)
    for version, spans in ((100, [1]), (200, [1, 2]), (300, [1, 2, 3]), (400, [1, 2, 3, 4])):
        for folder in (root / "serving" / "recommender", root / "releases"):
            (folder / str(version)).mkdir(parents=True)
        (root / "serving/recommender" / str(version) / "saved_model.pb").touch()
        manifest = {"spans": spans, "items": version, "warm_started_from": version - 100 or None}
        verdict = {"sentences": [f"recall@10 is {version / 1000}", "no slice [all] fell"]}
        registry.begin_push(version, f"/s/{version}", manifest, {"recall@10": version / 1000}, verdict)
        registry.finish_push(version, "pipeline", "better")
    return registry


def evergreen(home: Path, *arguments: str) -> Result:
    environment = {"EVERGREEN_HOME": str(home), "LOGNAME": "ann", "COLUMNS": "160", "EVERGREEN_REGISTRY_URL": None}
    return CliRunner(env=environment).invoke(cli, arguments)


def lines(done: Result) -> list[str]:
    """What was printed, without the columns' spaces and rules."""
    assert done.exit_code == 0, done.exception
    return [" ".join(line.split()) for line in done.output.splitlines() if line.strip(" ─")]


def states(registry: Registry) -> dict[int, str]:
    return {version.version: version.state for version in registry.versions()}


def on_disk(home: Path) -> dict[str, list[str]]:
    folders = {"serving": "serving/recommender", "quarantined": "serving/quarantined", "releases": "releases"}
    return {
        name: sorted(path.name for path in (home / "shop" / place).glob("[0-9]*")) for name, place in folders.items()
    }


def test_show_tells_what_a_version_is_and_what_became_of_it(registry: Registry, tmp_path: Path) -> None:
    evergreen(tmp_path, "models", "quarantine", "300", "--why", "[typo] a crawler")
    told = lines(evergreen(tmp_path, "models", "show", "300"))
    for line in (
        "version 300",
        "state quarantined",
        "pushed 2023-11-14 22:13:20 UTC",
        f"files {tmp_path / 'shop/serving/quarantined/300'}",
        "spans 1, 2, 3",
        "warm-started from 200",
        "items 300",
        "users –",
        "recall@10 0.3000",
        "recall@10 is 0.3",
        "no slice [all] fell",
        "2023-11-14 22:13:20 UTC pipeline push 300 400 better",  # what took its place
        "2023-11-14 22:13:20 UTC pipeline push 200 300 better",
    ):
        assert line in told
    assert [line for line in told if line.endswith(" UTC ann quarantine 300 – [typo] a crawler")]
    assert not [line for line in told if "100 200" in line]  # others' lines
    assert "version 7 is not in the registry; newest known: 400" in str(
        evergreen(tmp_path, "models", "show", "7").exception
    )


def test_compare_puts_two_versions_side_by_side(registry: Registry, tmp_path: Path) -> None:
    assert lines(evergreen(tmp_path, "models", "compare", "200", "400")) == [
        "metric 200 400 difference",
        "recall@10 0.2000 0.4000 +0.2000",
        "differs 200 400",
        "only its spans – 3, 4",
        "warm-started from 100 300",
        "items 200 400",
    ]
    assert lines(evergreen(tmp_path, "models", "compare", "200", "200"))[-1] == "nothing else differs"
    assert isinstance(evergreen(tmp_path, "models", "compare", "200", "7").exception, RegistryError)


def test_audit_is_a_table_the_newest_first(registry: Registry, tmp_path: Path) -> None:
    registry.roll_back(400, "bob", "clicks [really] fell", "/q/400")
    told = lines(evergreen(tmp_path, "models", "audit"))
    assert told[0] == "when who action from to why"
    assert told[1] == "2023-11-14 22:13:20 UTC bob rollback 400 300 clicks [really] fell"
    assert told[-1] == "2023-11-14 22:13:20 UTC pipeline push – 100 better"
    assert len(told) == 6


@pytest.mark.parametrize("words", [["rollback"], ["models", "rollback"]])
def test_rollback_has_two_names(registry: Registry, tmp_path: Path, words: list[str]) -> None:
    done = evergreen(tmp_path, *words, "--why", "clicks fell")
    assert done.output == "version 400 is quarantined; version 300 is live\n"
    assert registry.audit()[-1].action == "rollback"
    assert states(registry) == {400: "quarantined", 300: "live", 200: "retired", 100: "retired"}


def test_quarantine_takes_out_a_retired_version_or_the_live_one(registry: Registry, tmp_path: Path) -> None:
    done = evergreen(tmp_path, "models", "quarantine", "300", "--why", "a crawler")
    assert done.output == "version 300 is quarantined; version 400 is live\n"
    done = evergreen(tmp_path, "models", "quarantine", "400", "--why", "it learned from 300")
    assert done.output == "version 400 is quarantined; version 200 is live\n"  # and not 300
    assert on_disk(tmp_path)["serving"] == ["100", "200"]
    assert on_disk(tmp_path)["quarantined"] == ["300", "400"]
    told = [(a.who, a.action, a.from_version, a.to_version, a.why) for a in registry.audit()[-2:]]
    assert told == [
        ("ann", "quarantine", 300, None, "a crawler"),
        ("ann", "quarantine", 400, 200, "it learned from 300"),
    ]


def test_quarantine_wants_a_reason_and_refuses_what_makes_no_sense(registry: Registry, tmp_path: Path) -> None:
    assert evergreen(tmp_path, "models", "quarantine", "300").exit_code == 2
    evergreen(tmp_path, "models", "quarantine", "300", "--why", "a crawler")
    registry.begin_push(500, "/s/500", {}, {}, {})
    for version, said in (
        (7, "not in the registry"),
        (300, "already, by ann: a crawler"),
        (500, "its push is not done"),
    ):
        done = evergreen(tmp_path, "models", "quarantine", str(version), "--why", "x")
        assert isinstance(done.exception, RegistryError)
        assert said in str(done.exception)


def test_clean_keeps_as_many_as_it_is_told(registry: Registry, tmp_path: Path) -> None:
    assert evergreen(tmp_path, "models", "clean", "--keep", "1").exit_code == 2
    assert "--keep 10, or --config" in str(evergreen(tmp_path, "models", "clean").exception)
    done = evergreen(tmp_path, "models", "clean", "--keep", "3")
    assert done.output == "cleaned away: version 100\n", done.exception
    assert evergreen(tmp_path, "models", "clean", "--keep", "3").output == "cleaned away: nothing\n"
    assert on_disk(tmp_path) == {"serving": ["200", "300", "400"], "quarantined": [], "releases": ["200", "300", "400"]}
    assert states(registry)[100] == "removed"
    assert registry.audit()[-1].who == "ann"


def test_clean_reads_the_configuration(registry: Registry, tmp_path: Path) -> None:
    config = tmp_path / "shop.yaml"
    config.write_text("name: shop\ncontract: {interactions: {types: {view: 1.0}}}\npusher: {keep_versions: 2}\n")
    done = evergreen(tmp_path, "models", "clean", "--config", str(config))
    assert done.output == "cleaned away: version 200, version 100\n", done.exception


def test_on_a_cluster_the_folders_are_named_with_the_registry(registry: Registry, tmp_path: Path) -> None:
    shop, elsewhere = tmp_path / "shop", tmp_path / "elsewhere"
    url, serving = f"--registry-url={registry.url}", f"--serving-path={shop / 'serving/recommender'}"
    assert "go together" in str(evergreen(elsewhere, "models", "clean", "--keep", "3", url).exception)
    assert "go together" in str(evergreen(elsewhere, "models", "quarantine", "100", "--why", "x", serving).exception)
    assert "goes together" in str(evergreen(tmp_path, "models", "clean", "--keep", "3", "--releases-path=/r").exception)
    beside = evergreen(elsewhere, "models", "clean", "--keep", "3", url, serving).exception
    assert isinstance(beside, EvergreenError)  # releases are not beside the servables here
    assert str(beside).startswith(f"{shop / 'serving/releases'} is no folder; ")
    assert states(registry)[100] == "retired"  # nothing was given up whose files would stay
    done = evergreen(elsewhere, "models", "clean", "--keep", "3", url, serving, f"--releases-path={shop / 'releases'}")
    assert done.output == "cleaned away: version 100\n", done.exception
    done = evergreen(elsewhere, "models", "quarantine", "200", "--why", "x", url, serving)
    assert done.output == "version 200 is quarantined; version 400 is live\n", done.exception
    (shop / "releases").rename(shop / "serving/releases")  # as a cluster has it
    done = evergreen(elsewhere, "models", "clean", "--keep", "2", url, serving)
    assert done.output == "cleaned away: nothing\n", done.exception
