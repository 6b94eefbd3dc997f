"""The way through the scratch folder: on a disk, and on a file system that no path of Python's reaches."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Integer

from components.errors import EvergreenError
from evergreen_kubeflow.beam_scratch import by_way_of


@pytest.fixture(params=["disk", "ram://"])
def scratch(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet. `ram://` is TensorFlow's own: an object store as fileio sees one."""
    return str(tmp_path / "scratch") if request.param == "disk" else f"ram://{uuid.uuid4().hex}/scratch"


def artifact(cls: type, path: Path, **files: str):  # type: ignore[no-untyped-def]
    """An artifact at `path`; `a__b="text"` is its file `a/b`."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    made = cls()
    made.uri = str(path)
    return made


def read(uri: str) -> str:
    with fileio.open(uri) as stream:
        return stream.read()


def is_empty(scratch: str) -> bool:
    return not fileio.exists(scratch) or not fileio.listdir(scratch)


def test_inputs_go_there_and_outputs_come_back(scratch: str, tmp_path: Path) -> None:
    old, new = artifact(Examples, tmp_path / "old", a="1", deep__er__b="2"), artifact(Examples, tmp_path / "new", a="3")
    made = artifact(ExampleStatistics, tmp_path / "made")
    with by_way_of(scratch, {"examples": [old, new], "none": []}, {"statistics": [made]}):
        uris = [one.uri for one in (old, new, made)]
        assert all(uri.startswith(f"{scratch}/") for uri in uris)
        assert len(set(uris)) == 3
        assert (read(f"{old.uri}/a"), read(f"{old.uri}/deep/er/b"), read(f"{new.uri}/a")) == ("1", "2", "3")
        assert fileio.isdir(made.uri)  # as TFX's launcher has it ready
        fileio.makedirs(f"{made.uri}/Split-train")
        with fileio.open(f"{made.uri}/Split-train/stats", "w") as stream:
            stream.write("counted")
        assert not (tmp_path / "made" / "Split-train").exists()
    assert [one.uri for one in (old, new, made)] == [str(tmp_path / name) for name in ("old", "new", "made")]
    assert (tmp_path / "made" / "Split-train" / "stats").read_text() == "counted"
    assert (tmp_path / "old" / "deep" / "er" / "b").read_text() == "2"
    assert is_empty(scratch)


def test_a_failure_leaves_nothing_behind_and_is_the_one_that_is_seen(scratch: str, tmp_path: Path) -> None:
    given, made = artifact(Examples, tmp_path / "given", a="1"), artifact(Examples, tmp_path / "made")

    def work() -> None:
        with by_way_of(scratch, {"given": [given]}, {"made": [made]}):
            with fileio.open(f"{made.uri}/half", "w") as stream:
                stream.write("hal")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert (given.uri, made.uri) == (str(tmp_path / "given"), str(tmp_path / "made"))
    assert not list((tmp_path / "made").iterdir())
    assert is_empty(scratch)


def test_a_failure_on_the_way_there_leaves_nothing_behind_either(scratch: str, tmp_path: Path) -> None:
    given = artifact(Examples, tmp_path / "given", a="1")
    (tmp_path / "given" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(fileio.NotFoundError), by_way_of(scratch, {"given": [given]}, {}):
        pytest.fail("the work was begun without its inputs")
    assert given.uri == str(tmp_path / "given")
    assert is_empty(scratch)


def test_who_removes_the_folder_first_is_forgiven(
    scratch: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = artifact(Examples, tmp_path / "made")

    def work() -> None:
        with by_way_of(scratch, {}, {"made": [made]}):
            fileio.rmtree(scratch)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not caplog.records


def test_values_stay_in_the_pod(scratch: str, tmp_path: Path) -> None:
    """A value's URI is a file that the executor writes: were it a folder there, the executor could not."""
    value = Integer()
    value.uri = str(tmp_path / "value")
    with by_way_of(scratch, {}, {"span": [value]}):
        assert value.uri == str(tmp_path / "value")
        value.write(7)
    assert Path(value.uri).read_text() == "7"


def test_an_input_that_the_store_has_lost_and_an_output_of_nothing(scratch: str, tmp_path: Path) -> None:
    """Object stores know no empty folders: an input may not be there at all."""
    lost, made = Examples(), artifact(Examples, tmp_path / "made")
    lost.uri = str(tmp_path / "lost")
    with by_way_of(scratch, {"lost": [lost]}, {"made": [made]}):
        assert fileio.listdir(lost.uri) == []
    assert list((tmp_path / "made").iterdir()) == []


def test_nothing_moves_without_a_scratch_folder(tmp_path: Path) -> None:
    given = artifact(Examples, tmp_path / "given", a="1")
    with by_way_of(None, {"given": [given]}, {}):
        assert given.uri == str(tmp_path / "given")


def test_two_runs_do_not_meet(scratch: str, tmp_path: Path) -> None:
    one, other = (artifact(Examples, tmp_path / name, a=name) for name in ("one", "other"))
    with by_way_of(scratch, {"examples": [one]}, {}):
        with by_way_of(f"{scratch}/", {"examples": [other]}, {}):
            assert (read(f"{one.uri}/a"), read(f"{other.uri}/a")) == ("one", "other")
        assert read(f"{one.uri}/a") == "one"


@pytest.mark.parametrize("scratch", ["minio://mlpipeline/scratch", "s3://bucket/scratch", "/proc/scratch"])
def test_a_place_that_cannot_be_written_is_refused_with_what_can(scratch: str, tmp_path: Path) -> None:
    given = artifact(Examples, tmp_path / "given", a="1")
    message = rf"'{scratch}' cannot be written: .+ Correct kubeflow\.beam_scratch: .*gs://"
    with pytest.raises(EvergreenError, match=message), by_way_of(scratch, {"given": [given]}, {}):
        pytest.fail("the work was begun")
    assert given.uri == str(tmp_path / "given")
