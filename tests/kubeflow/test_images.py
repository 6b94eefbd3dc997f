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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS, TRAINING = (ROOT / "kubeflow" / "images" / f"{name}.Dockerfile" for name in ("steps", "training"))
DOCKERFILES = [STEPS, TRAINING]
PACKAGES = ("pipeline", "components", "trainer", "serving", "evergreen_kubeflow")


@dataclass(frozen=True)
class Instruction:
    """`WORD --flag=value … arguments`, on one line."""

    word: str
    flags: dict[str, str]
    text: str

    @cached_property
    def arguments(self) -> list[str]:
        return self.text.split()


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile: without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        flags = {}
        while match := re.match(r"--([a-z]+)=(\S+)\s+", rest):
            flags[match[1]], rest = match[2], rest[match.end() :]
        found.append(Instruction(word.upper(), flags, rest))
    return found


def stages(path: Path) -> dict[str, list[Instruction]]:
    """Instructions by stage, FROM included; the last one's name is ''."""
    found: dict[str, list[Instruction]] = {}
    for instruction in instructions(path.read_text()):
        if instruction.word == "FROM":
            name = instruction.arguments[2] if len(instruction.arguments) == 3 else ""
            found[name] = []
        if found:
            found[name].append(instruction)
    return found


def bases(path: Path) -> list[str]:
    """The images that a Dockerfile begins with, not its own stages; ARGs have their defaults."""
    defaults = dict(i.text.split("=", 1) for i in instructions(path.read_text()) if i.word == "ARG")
    named = [re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], s[0].arguments[0]) for s in stages(path).values()]
    return [name for name in named if name not in stages(path)]


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Docker's rule: the last pattern that fits the path or a folder above it decides; `!` lets in again."""
    ignored = False
    ways = [name, *(str(parent) for parent in Path(name).parents)]
    for pattern in patterns:
        parts = re.split(r"(\*\*/|\*)", pattern.lstrip("!"))
        expression = "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts)
        if any(re.fullmatch(expression, way) for way in ways):
            ignored = not pattern.startswith("!")
    return ignored


def in_context(name: str) -> bool:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return not is_ignored(name, [line for line in lines if line and not line.startswith("#")])


def files_of(name: str) -> list[str]:
    """The files below a path of the checkout that the context has."""
    path = ROOT / name
    below = path.rglob("*") if path.is_dir() else [path]
    return sorted(str(f.relative_to(ROOT)) for f in below if f.is_file() and in_context(str(f.relative_to(ROOT))))


def copied(stage: Sequence[Instruction]) -> list[tuple[list[str], str]]:
    """(sources, target) of the COPYs from the context."""
    copies = [i.arguments for i in stage if i.word == "COPY" and "from" not in i.flags]
    return [(names[:-1], names[-1]) for names in copies]


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
