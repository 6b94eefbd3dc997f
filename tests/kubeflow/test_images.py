"""The images, without an engine to build them: what the Dockerfiles say, and the installation that they describe.

The last part lays out what COPY copies, runs the Dockerfile's own commands on it, and starts the pods' commands there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.dockerfiles import bases, copied, instructions, is_ignored, patterns_of, stages

ROOT = Path(__file__).resolve().parents[2]
STEPS, TRAINING = (ROOT / "kubeflow" / "images" / f"{name}.Dockerfile" for name in ("steps", "training"))
DOCKERFILES = [STEPS, TRAINING]
PACKAGES = ("pipeline", "components", "trainer", "serving", "evergreen_kubeflow")


def in_context(name: str) -> bool:
    return not is_ignored(name, patterns_of(ROOT / ".dockerignore"))


def files_of(name: str) -> list[str]:
    """The files below a path of the checkout that the context has."""
    path = ROOT / name
    below = path.rglob("*") if path.is_dir() else [path]
    return sorted(str(f.relative_to(ROOT)) for f in below if f.is_file() and in_context(str(f.relative_to(ROOT))))


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EVERGREEN"))}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=clean | environment, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the project is installed from what the stage `project` copies, by that stage's own command."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")  # where setup.sh has it
    base = tmp_path_factory.mktemp("image")
    project = stages(STEPS)["project"]
    for sources, target in copied(project):
        for source in sources:
            for name in files_of(source):
                to = base / "project" / target / Path(name).relative_to(source if (ROOT / source).is_dir() else ".")
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, to)
    (build,) = (i.text for i in project if i.word == "RUN")
    here = {"uv": uv, "/opt/evergreen/bin/python": sys.executable, "/wheel": str(base / "wheel")}
    run([here.get(word, word) for word in build.split()], base / "project")
    (wheel,) = (base / "wheel").glob("*.whl")
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", sys.executable]
    run([*install, "--target", base / "site", wheel], base)
    return base / "site"


@pytest.fixture
def pod(site: Path, tmp_path: Path):
    """Runs `python …` as a pod does: in an empty folder, with what the image has instead of the checkout."""

    def python(*arguments: str) -> str:
        return run([sys.executable, *arguments], tmp_path, PYTHONPATH=str(site), TF_CPP_MIN_LOG_LEVEL="3")

    return python


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", True),
        ("a/b.py", True),
        ("keep", False),
        ("keep/a/b.py", False),
        ("keep/out/x", True),
        ("keep/a/b.pyc", True),
    ],
)
def test_the_ignore_rules_are_read_as_docker_reads_them(name: str, expected: bool) -> None:
    assert is_ignored(name, ["*", "!keep", "keep/out", "**/*.pyc"]) is expected


def test_a_dockerfile_is_read_as_docker_reads_it() -> None:
    text = "# no\nFROM a:1 AS b\nRUN --mount=type=bind,from=x one \\\n    # within\n    && two\nCOPY --from=b /c /d\n"
    assert [(i.word, i.flags, i.text) for i in instructions(text)] == [
        ("FROM", {}, "a:1 AS b"),
        ("RUN", {"mount": "type=bind,from=x"}, "one && two"),
        ("COPY", {"from": "b"}, "/c /d"),
    ]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    run([Path(sys.executable).parent / "hadolint", path], ROOT)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_bases_are_pinned(path: Path) -> None:
    assert bases(path)
    for image in bases(path):
        assert re.fullmatch(r"[^:]+:(?!latest$).+", image), f"{image}: a tag that stays what it is"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_image_runs_as_nobody_special(path: Path) -> None:
    last = stages(path)[""]
    user, group = [i.text for i in last if i.word == "USER"][-1].split(":")  # numbers: Kubernetes reads no passwd
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_no_entrypoint_stands_before_the_commands_of_pods(path: Path) -> None:
    assert not {"ENTRYPOINT", "CMD"} & {i.word for i in stages(path)[""]}


def test_the_steps_run_with_the_keras_that_the_models_are_made_with() -> None:
    (environment,) = (i.arguments for i in stages(STEPS)[""] if i.word == "ENV")
    assert "TF_USE_LEGACY_KERAS=1" in environment
    home = next(value for value in environment if value.startswith("HOME=")).removeprefix("HOME=")
    assert home in [i.text for i in stages(STEPS)[""] if i.word == "WORKDIR"]  # created, and the user's own


def test_every_source_is_there_and_not_ignored() -> None:
    for path in DOCKERFILES:
        for stage in stages(path).values():
            for sources, _ in copied(stage):
                assert all(map(files_of, sources)), f"{path.name} copies {sources}; some have no file in the context"


def test_the_context_is_what_is_copied_and_nothing_more() -> None:
    sources = {name for stage in stages(STEPS).values() for names, _ in copied(stage) for name in names}
    tops = {entry.name for entry in ROOT.iterdir() if in_context(entry.name)}
    assert tops == sources
    for secret in (".git/config", ".evergreen/x", "kubeflow/manifests/base/registry.env", "examples/movielens/data/u"):
        assert not in_context(secret)


def test_the_dependencies_know_nothing_of_the_source() -> None:
    """Or every commit would make a new layer of 3 GB."""
    chain = [i for name in ("tools", "dependencies") for i in stages(STEPS)[name]]
    assert copied(chain) == []
    assert "kubeflow" not in {name for names, _ in copied(stages(STEPS)["lock"]) for name in names}


def test_stages_name_stages_that_come_before() -> None:
    seen: set[str] = set()
    for name, stage in stages(STEPS).items():
        mounts = [dict(p.split("=") for p in i.flags["mount"].split(",")) for i in stage if "mount" in i.flags]
        assert {i.flags["from"] for i in stage if "from" in i.flags} | {m["from"] for m in mounts} <= seen
        seen.add(name)


def test_what_is_installed_is_the_image_and_not_the_checkout(site: Path, pod) -> None:  # type: ignore[no-untyped-def]
    names = ", ".join(PACKAGES)
    files = pod("-c", f"import {names}, evergreen_kubeflow.entrypoint; print(*[m.__path__[0] for m in ({names})])")
    assert files.split() == [str(site / name) for name in PACKAGES]
    assert (site / "pipeline" / "report.html.j2").is_file()
    assert list(site.glob("evergreen_recommender-*/licenses/LICENSE"))
    assert not list(site.rglob("*.Dockerfile"))


def test_image_and_package_have_the_same_code_version(pod) -> None:  # type: ignore[no-untyped-def]
    """A step refuses a package that was compiled from other code: the image must not look like other code."""
    ask = f"from pipeline.code_version import code_version; print(code_version({PACKAGES}))"
    assert pod("-c", ask) == run([sys.executable, "-c", ask], ROOT)


@pytest.mark.parametrize("module", ["evergreen_kubeflow.entrypoint", "serving.server"])
def test_the_commands_of_pods_start(pod, module: str) -> None:  # type: ignore[no-untyped-def]
    assert "Usage: " in pod("-m", module, "--help")
