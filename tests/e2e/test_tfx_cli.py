"""The same pipeline by TFX's own command line: `tfx pipeline create | list | delete --engine=local`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "pipeline" / "local_runner.py"
TFX = Path(sys.executable).with_name("tfx")


def names(listing: str) -> list[str]:
    """Pipelines between the dashes of `tfx pipeline list`."""
    return [line.strip() for line in re.split(r"\n?-{5,}\n?", listing) if line.strip() and " " not in line.strip()]


def test_tfx_knows_the_pipeline_until_it_is_deleted(planted, tmp_path: Path) -> None:
    environment = os.environ | {
        "HOME": str(tmp_path),  # where the local engine keeps what it was told
        "EVERGREEN_HOME": str(tmp_path / "evergreen"),
        "EVERGREEN_CONFIG": str(planted.config),
        "EVERGREEN_SPAN": "1",
        "PATH": f"{TFX.parent}:{os.environ['PATH']}",
    }

    def tfx(*arguments: str) -> str:
        command = [str(TFX), "pipeline", *arguments, "--engine=local"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert 'Pipeline "planted" created successfully.' in tfx("create", f"--pipeline-path={RUNNER}")
    assert names(tfx("list")) == ["planted"]
    assert not (tmp_path / "evergreen" / "planted" / "metadata.sqlite").exists()  # compiled, not run
    assert 'Pipeline "planted" deleted successfully.' in tfx("delete", "--pipeline-name=planted")
    assert not list((tmp_path / "tfx" / "local").glob("*"))
