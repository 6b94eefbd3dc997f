"""What `story` tells: four runs of the planted world by the runner that production uses, each once, in order.

Between the second and the one that is refused, an item is sold out, and the model is released without it.
"""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.errors import NothingNew
from pipeline.config import read_config
from pipeline.places import Places
from pipeline.runs import Run
from pipeline.runs import run as read_run
from serving.registry import Registry, Version


@dataclass(frozen=True)
class Story:
    """What was live after each run, how each ended, and what the trainer said in each."""

    places: Places
    outcomes: dict[str, Any]
    live: dict[str, Version]
    said: dict[str, list[str]]
    schema: Path

    def run(self, name: str) -> Run:
        return read_run(self.places, self.outcomes[name].run_id)

    def production(self, name: str) -> dict[str, Any]:
        """What the run was told of production."""
        folder = self.run(name).node("ProductionModel").outputs["production"].uri
        return json.loads(Path(folder, "production.json").read_text())


class Said(logging.Handler):
    """Keeps the lines of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="session")
def story(planted, tmp_path_factory: pytest.TempPathFactory) -> Story:
    from click.testing import CliRunner

    from pipeline import local_runner
    from pipeline.cli import cli

    config = read_config(planted.config)
    places = Places(tmp_path_factory.mktemp("home"), config.name)
    schema = planted.path / "schema"
    story = Story(places, {}, {}, {}, schema)
    registry = Registry.at(places.registry)
    said = Said()
    logging.getLogger("evergreen.trainer").addHandler(said)

    def run(name: str, span: int) -> None:
        said.lines.clear()
        story.outcomes[name] = local_runner.run(config, places, span)
        story.live[name] = registry.live()
        story.said[name] = list(said.lines)

    run("first", 1)
    freeze = ["schema", "freeze", "--config", str(planted.config), "--to", str(schema)]
    frozen = CliRunner(env={"EVERGREEN_HOME": str(places.home)}).invoke(cli, freeze)
    assert frozen.exit_code == 0, frozen.output
    config = dataclasses.replace(config, schema_dir=str(schema))
    run("second", 2)
    with pytest.raises(NothingNew, match="production has learned every span of the window from 1 to 2"):
        local_runner.run(config, places, 2)
    (planted.path / "stock.csv").write_text(f"item_id,available\n{planted.untouched},false\nunheard-of,0\n")
    release = ["release", "--availability", str(planted.path / "stock.csv"), "--why", "sold out"]
    released = CliRunner(env={"EVERGREEN_HOME": str(places.home)}).invoke(cli, release)
    assert released.exit_code == 0, released.output
    story.said["released"], story.live["released"] = [released.output], registry.live()
    run("bad", 3)
    logging.getLogger("evergreen.trainer").removeHandler(said)
    return story
