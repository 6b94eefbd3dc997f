"""A benchmark finds the packages of Evergreen, whatever lies beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
USERS = [
    path
    for path in sorted(FOLDER.glob("*.py"))
    if "from pipeline" in (text := path.read_text()) or "from serving" in text
]


@pytest.mark.parametrize("script", USERS, ids=lambda path: path.stem)
def test_serving_is_the_package(script: Path, tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.path.insert(0, {str(FOLDER)!r})  # as where the script is run
runpy.run_path({str(script)!r}, run_name="benchmark")
import serving.errors
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_some_use_it() -> None:
    assert {"parity", "servable", "serving"} <= {path.stem for path in USERS}
