"""Runs as a real LocalDagRunner records them: one that fails, one that is complete, one from the cache."""

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import Channel
from tfx.types.standard_artifacts import Examples, Model

from components.errors import DataStopped, EvergreenError, RunFailed
from pipeline.places import Places, project_root
from pipeline.runs import (
    CACHED,
    COMPLETE,
    FAILED,
    RUNNING,
    Node,
    check_complete,
    record_error,
    run,
    runs,
    without_traceback,
)

ALL = ["Read", "Learn", "Judge"]


@component
def Read(examples: OutputArtifact[Examples]) -> None:
    examples.span = 7
    examples.set_string_custom_property("note", "seven")


@component
def Learn(examples: InputArtifact[Examples], model: OutputArtifact[Model], fail: Parameter[int]) -> None:
    if fail:
        raise DataStopped("30 of 100 rows rejected:\n  30 × no user")


@component
def Judge(model: InputArtifact[Model]) -> None:
    pass


def execute(places: Places, nodes: list) -> None:
    places.root.mkdir(parents=True, exist_ok=True)
    LocalDagRunner().run(
        Pipeline(
            pipeline_name=places.pipeline,
            pipeline_root=str(places.artifacts),
            components=nodes,
            enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(places.metadata)),
        )
    )


def chain(fail: bool) -> list:
    read = Read()
    learn = Learn(examples=read.outputs["examples"], fail=int(fail))
    return [read, learn, Judge(model=learn.outputs["model"])]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Three runs: Learn fails; Learn passes (Read is cached); all is cached."""
    places = Places(tmp_path_factory.mktemp("home"), "tiny")
    with pytest.raises(DataStopped) as stopped:
        execute(places, chain(fail=True))
    record_error(places, stopped.value)
    execute(places, chain(fail=False))
    execute(places, chain(fail=False))
    return places


def test_runs_come_newest_first_with_states_of_their_nodes(places: Places) -> None:
    newest, middle, oldest = runs(places)
    assert newest.started > middle.started > oldest.started
    assert [run.state for run in (newest, middle, oldest)] == [COMPLETE, COMPLETE, FAILED]
    assert [(node.id, node.state) for node in oldest.nodes] == [("Read", COMPLETE), ("Learn", FAILED)]
    assert [(node.id, node.state) for node in middle.nodes] == [
        ("Read", CACHED),
        ("Learn", COMPLETE),
        ("Judge", COMPLETE),
    ]
    assert [node.cached for node in newest.nodes] == [True, True, True]


def test_a_node_knows_what_it_read_and_wrote(places: Places) -> None:
    learn = runs(places)[1].node("Learn")
    examples, model = learn.inputs["examples"], learn.outputs["model"]
    assert (examples.type, examples.properties["span"], examples.properties["note"]) == ("Examples", 7, "seven")
    assert Path(model.uri).is_dir()
    assert list(learn.outputs) == ["model"]
    assert runs(places)[0].node("Learn").outputs["model"].uri == model.uri  # the cached one points to the same files


def test_durations_are_positive_and_a_run_lasts_as_long_as_its_nodes(places: Places) -> None:
    for each in runs(places):
        assert all(node.seconds >= 0 for node in each.nodes)
        assert each.seconds >= sum(node.seconds for node in each.nodes) > 0


def test_the_error_of_a_failed_node_is_kept_in_its_own_words(places: Places) -> None:
    assert runs(places)[-1].node("Learn").error == "DataStopped: 30 of 100 rows rejected:\n  30 × no user"


def test_record_error_leaves_earlier_runs_alone(places: Places) -> None:
    record_error(places, ValueError("of a later run, which has no failed node"))
    assert runs(places)[-1].node("Learn").error.startswith("DataStopped")


def test_check_complete_names_what_failed_and_what_never_ran(places: Places) -> None:
    newest, _, oldest = runs(places)
    check_complete(newest, ALL)
    with pytest.raises(RunFailed, match=r"Learn failed \(DataStopped: 30 of 100 rows rejected:\); Judge never ran"):
        check_complete(oldest, ALL)


def test_check_complete_catches_what_local_dag_runner_lets_pass(tmp_path: Path) -> None:
    places = Places(tmp_path, "unresolved")
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=Channel(type=Model)).with_id("Latest")
    execute(places, [latest, Judge(model=latest.outputs["model"])])  # nothing is raised: that is the trap
    with pytest.raises(RunFailed, match=r"Judge failed \(InsufficientInputError: .*got 0 artifacts"):
        check_complete(runs(places)[0], ["Judge"])


def test_check_complete_catches_a_killed_run(places: Places) -> None:
    killed = type(runs(places)[0])("r", runs(places)[0].started, 1.0, RUNNING, (Node("Read", RUNNING, 1.0),))
    with pytest.raises(RunFailed, match="Read did not finish; Learn, Judge never ran"):
        check_complete(killed, ALL)


def test_run_finds_one_and_names_the_known_ones(places: Places, tmp_path: Path) -> None:
    known = runs(places)
    assert run(places, known[1].run_id) == known[1]
    with pytest.raises(EvergreenError, match=known[0].run_id):
        run(places, "yesterday's")
    with pytest.raises(EvergreenError, match="none yet"):
        run(Places(tmp_path, "new"), "any")


def test_before_the_first_use_there_are_no_runs_and_no_files(tmp_path: Path) -> None:
    assert runs(Places(tmp_path, "new")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_metadata_is_named(tmp_path: Path) -> None:
    places = Places(tmp_path, "spoiled")
    places.root.mkdir()
    places.metadata.write_text("not a database, and longer than the header of one would be " * 20)
    with pytest.raises(EvergreenError, match=str(places.metadata)):
        runs(places)


@pytest.mark.parametrize(
    "fail",
    [
        lambda: int("x"),
        lambda: {}["key"],
        lambda: (_ for _ in ()).throw(DataStopped("first\n  indented\nlast")),
    ],
)
def test_without_traceback_keeps_type_and_message(fail: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        fail()
    text = "".join(traceback.format_exception(caught.value))
    assert without_traceback(text) == f"{type(caught.value).__name__}: {caught.value}"


def test_text_that_is_no_traceback_stays() -> None:
    assert without_traceback("worker 3 was preempted\n") == "worker 3 was preempted"


def test_listing_runs_imports_neither_tensorflow_nor_tfx(places: Places) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.places import Places; from pipeline.runs import runs;"
        f"print(len(runs(Places(Path({str(places.home)!r}), 'tiny'))), {{'tensorflow', 'tfx'}} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["3", "set()"]


def test_places_come_from_the_environment_or_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERGREEN_HOME", raising=False)
    assert Places.from_environment("p").root == project_root() / ".evergreen" / "p"
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
    places = Places.from_environment("p")
    assert places.serving == tmp_path / "elsewhere" / "p" / "serving" / "recommender"
    assert list(tmp_path.iterdir()) == []
