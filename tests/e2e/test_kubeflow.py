"""The compiled package, executed as a cluster would, gives what the local run gives.

`story` has the local runs: span 1 with an inferred schema, span 2 with the schema frozen after it, and a
third that the gate stops. Here the same happens in pods of an emulated Kubeflow Pipelines, from packages.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evergreen_kubeflow.mend import kebab
from pipeline.config import read_config
from serving.registry import Registry
from serving.registry import Version as Pushed
from tests.e2e.conftest import Planted
from tests.e2e.story import Story
from tests.kubeflow.compare import DOCUMENTS, differences, documents, figures
from tests.kubeflow.emulator import OUTPUT_FILES, Backend, Task

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Cluster:
    """What the runs left: tasks by run, and what is live."""

    backend: Backend
    runs: dict[str, dict[str, Task]]
    versions: list[Pushed]
    states: list[tuple[int, str]]

    def folder(self, run: str, node: str, channel: str) -> Path:
        return self.backend.path(self.runs[run][kebab(node)].artifacts[channel]["uri"])


@pytest.fixture(scope="module")
def cluster(story: Story, planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    from evergreen_kubeflow.runner import compile_package

    home = tmp_path_factory.mktemp("cluster")
    config = read_config(planted.config)
    packages = {
        "inferred": compile_package(config, home / "inferred.yaml"),
        "frozen": compile_package(dataclasses.replace(config, schema_dir=str(story.schema)), home / "frozen.yaml"),
    }
    url = f"sqlite:///{home}/registry.sqlite"
    backend = Backend(home / "store", {"evergreen-registry": {"url": url}})
    places = {
        "data_root": str(planted.path / "data"),
        "serving_path": str(home / "serving/recommender"),
        "releases_path": str(home / "serving/releases"),
    }
    runs = {"first": backend.run(packages["inferred"], {**places, "span": 1})}
    backend.output_file = OUTPUT_FILES[1]
    runs["second"] = backend.run(packages["frozen"], {**places, "span": 2})
    runs["bad"] = backend.run(packages["frozen"], places)  # the newest span is the bad one
    registry = Registry(url)
    told = Cluster(backend, runs, registry.versions(), [(s.span, s.state) for s in registry.spans()])
    registry.close()
    yield told
    backend.close()


def test_every_task_succeeds(cluster: Cluster) -> None:
    for name in ("first", "second"):
        failed = {task.name: task.log[-2000:] for task in cluster.runs[name].values() if task.state != "SUCCEEDED"}
        assert not failed
        assert len(cluster.runs[name]) == 19


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_figures_are_those_of_the_local_run(cluster: Cluster, story: Story, name: str, document: str) -> None:
    run = story.run(name)
    wanted = {(node, channel) for node, channel, _ in DOCUMENTS.values()}
    local = documents({(n, c): Path(run.node(n).outputs[c].uri) for n, c in wanted})  # type: ignore[union-attr]
    remote = documents({(n, c): cluster.folder(name, n, c) for n, c in wanted})
    assert differences(local[document], remote[document]) == []
    assert figures(local[document])


def test_the_same_was_pushed(cluster: Cluster, story: Story) -> None:
    second, first = cluster.versions
    assert (second.state, first.state) == ("live", "retired")
    for version, name in ((first, "first"), (second, "second")):
        assert version.manifest["spans"] == story.live[name].manifest["spans"]
        assert version.metrics == pytest.approx(story.live[name].metrics, abs=1e-6, nan_ok=True)


def test_the_gate_stops_the_bad_span_with_one_line(cluster: Cluster, story: Story) -> None:
    *_, last = cluster.runs["bad"].values()
    assert (last.name, last.state) == ("admission", "FAILED")
    assert last.log.splitlines()[-1].strip()
    told = last.log[last.log.rindex("error: ") :]
    assert "glanced" in told
    assert "Traceback" not in last.log
    assert story.outcomes["bad"].title.removeprefix("Stopped by the data gate: ") in told
    assert cluster.states == [(1, "learned"), (2, "learned"), (3, "quarantined")]


def test_the_ui_gets_what_it_draws(cluster: Cluster, story: Story) -> None:
    report = cluster.runs["second"]["run-report"]
    verdict = cluster.folder("second", "RunReport", "verdict").read_text()
    assert verdict.startswith(f"# Pushed as version {cluster.versions[0].version}\n")
    assert "| recall@10 | overall | " in verdict
    page = cluster.folder("second", "RunReport", "report").read_text()
    assert page.lstrip().startswith("<!doctype html>")
    assert f"Pushed as version {cluster.versions[0].version}" in page
    metrics = report.artifacts["metrics"]["metadata"]
    assert metrics["ndcg@10"] == pytest.approx(story.live["second"].metrics["ndcg@10"], abs=1e-6)
    assert metrics["production ndcg@10"] > 0
    (points,) = report.artifacts["roc"]["metadata"]["confidenceMetrics"].values()
    assert (points[0]["recall"], points[-1]["recall"]) == (0, 1)


@pytest.mark.cluster
def test_a_second_run_of_a_span_is_cached_until_something_changed(cluster: Cluster, planted: Planted) -> None:
    """Nothing was pushed by the stopped run, so all but the snapshot up to the gate is as it was."""
    again = cluster.backend.run(cluster_package(cluster), bad_parameters(cluster, planted))
    states = {name: task.state for name, task in again.items()}
    assert states["snapshot"] == "SUCCEEDED"
    assert states["interaction-example-gen"] == "CACHED"
    assert states["statistics-gen"] == "CACHED"
    (planted.path / "data/log/part-3.csv").touch()  # new data under an old name
    changed = cluster.backend.run(cluster_package(cluster), bad_parameters(cluster, planted))
    assert changed["interaction-example-gen"].state == "SUCCEEDED"
    other = cluster.backend.run(cluster_package(cluster), {**bad_parameters(cluster, planted), "window_spans": 1})
    assert other["interaction-example-gen"].state == "SUCCEEDED"
    assert other["production-model"].state == "CACHED"
    home = cluster.backend.store.parent
    cluster.backend.secrets = {"evergreen-registry": {"url": f"sqlite:///{home}/new.sqlite"}}
    new = cluster.backend.run(cluster_package(cluster), bad_parameters(cluster, planted))
    assert new["production-model"].state == "SUCCEEDED"  # an empty registry is not the one of before the first push
    assert new["interaction-example-gen"].state == "SUCCEEDED"


def test_a_registry_that_does_not_answer_is_told(cluster: Cluster, planted: Planted) -> None:
    backend = Backend(cluster.backend.store, {"evergreen-registry": {"url": "postgresql://nobody@127.0.0.1:1/none"}})
    done = backend.run(cluster_package(cluster), bad_parameters(cluster, planted))
    backend.close()
    *_, last = done.values()
    assert (last.name, last.state) == ("snapshot", "FAILED")
    assert "error: the registry postgresql://nobody@127.0.0.1:1/none cannot be used" in last.log
    assert "Traceback" not in last.log


def cluster_package(cluster: Cluster) -> Path:
    return cluster.backend.store.parent / "frozen.yaml"


def bad_parameters(cluster: Cluster, planted: Planted) -> dict[str, str]:
    home = cluster.backend.store.parent
    return {
        "data_root": str(planted.path / "data"),
        "serving_path": str(home / "serving/recommender"),
        "releases_path": str(home / "serving/releases"),
    }


def test_metadata_is_read_back_as_it_was_written(cluster: Cluster) -> None:
    """Floats for integers, lists wrapped: what the backend made of it, and that a step still saw splits and spans."""
    metadata = cluster.runs["second"]["interaction-example-gen"].artifacts["examples"]["metadata"]
    assert metadata["span"] == 2.0
    assert json.loads(metadata["split_names"]) == ["train", "eval"]
