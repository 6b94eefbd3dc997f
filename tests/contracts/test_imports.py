"""Laws of the house that import-linter and ruff cannot say: doorways are small, work is free of TFX, files have a size.

Read from the source, without importing it.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "components", "trainer", "serving")
FOLDERS = (*PACKAGES, "kubeflow")  # imported as evergreen_kubeflow
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DOORWAYS = sorted((ROOT / "components").glob("*/component.py"))
WORK = sorted(set((ROOT / "components").glob("*/*.py")) - set(DOORWAYS))
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core"}
MAX_DOORWAY_LINES, MAX_LINES = 80, 300


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere in it, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return found


def packages(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported(path)}


def test_there_is_something_to_judge() -> None:
    assert len(DOORWAYS) >= 8
    assert len(WORK) > len(DOORWAYS)
    assert {name_of(path).split("/")[0] for path in SOURCES} == set(FOLDERS)


@pytest.mark.parametrize("path", WORK, ids=name_of)
def test_the_work_of_a_component_knows_no_tfx(path: Path) -> None:
    assert "tfx" not in packages(path), f"{name_of(path)}: TFX belongs in component.py"


@pytest.mark.parametrize("path", DOORWAYS, ids=name_of)
def test_a_component_is_a_doorway(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_DOORWAY_LINES, f"{name_of(path)} has {lines} lines; move work to its own file"


@pytest.mark.parametrize("path", DOORWAYS, ids=name_of)
def test_a_doorways_annotations_are_objects(path: Path) -> None:
    """TFX's @component reads annotations as they are; with the future import they would be strings (TFX 1.16)."""
    assert "__future__" not in packages(path)


@pytest.mark.parametrize("path", DOORWAYS, ids=name_of)
def test_every_component_has_its_work_beside_it(path: Path) -> None:
    if path.parent.name in ("trainer", "tuner"):
        return  # their work is the package `trainer`, which ships alone
    assert [work for work in WORK if work.parent == path.parent and work.name != "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_named_for_what_it_is_and_fits_a_readers_head(path: Path) -> None:
    assert not VAGUE & {path.stem, path.parent.name}, f"{name_of(path)}: a noun that says what it is"
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{name_of(path)} has {lines} lines, {MAX_LINES} are allowed: split it"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.read_text().strip()], ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name in ("trainer", "serving")], ids=name_of)
def test_what_ships_alone_imports_nothing_of_the_rest(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    if own == "components":
        return  # components/trainer is the doorway, not the package
    forbidden = {"tfx", *PACKAGES} - {own}
    assert not forbidden & packages(path)


@pytest.mark.parametrize("path", [p for p in SOURCES if name_of(p).split("/")[0] in PACKAGES], ids=name_of)
def test_nothing_knows_kubeflow_but_kubeflow(path: Path) -> None:
    assert not {"evergreen_kubeflow", "kfp", "kfp_server_api"} & packages(path)


def test_serving_and_configuration_are_imported_without_tfx() -> None:
    """What answers requests, and what a command line needs, never loads TFX, even through others."""
    code = "import sys; import serving.server, serving.client, pipeline.cli, pipeline.config, pipeline.runs"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(sorted({{'tfx', 'tensorflow_transform'}} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
