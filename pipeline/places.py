"""Where a pipeline's files are: the only module that knows the layout below EVERGREEN_HOME.

<home>/<pipeline>/artifacts/                  TFX artifacts, node by node
                  metadata.sqlite             ML Metadata: runs, executions, lineage
                  registry.sqlite             what is in production, what was before
                  serving/recommender/<n>/    what the model server watches
                  serving/withdrawn/<n>/      versions that were rolled back
                  releases/<n>/               what the next run needs of a pushed version
                  reports/<run>/index.html
                  logs/
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "EVERGREEN_HOME"


@dataclass(frozen=True)
class Places:
    """Paths of one pipeline; nothing is created here, each writer makes its own folder."""

    home: Path
    pipeline: str

    @classmethod
    def from_environment(cls, pipeline: str, project_root: Path) -> Places:
        """Below `$EVERGREEN_HOME`, or `<project_root>/.evergreen` when it is unset or empty. For entry points only."""
        home = os.environ.get(HOME_VARIABLE) or project_root / ".evergreen"
        return cls(Path(home).expanduser().absolute(), pipeline)

    @property
    def root(self) -> Path:
        return self.home / self.pipeline

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.sqlite"

    @property
    def registry(self) -> Path:
        return self.root / "registry.sqlite"

    @property
    def registry_url(self) -> str:
        return f"sqlite:///{self.registry.absolute()}"

    @property
    def serving(self) -> Path:
        return self.root / "serving" / "recommender"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def withdrawn(self) -> Path:
        """Beside `serving`, not in it: a rollback renames folders, which takes one file system."""
        return self.root / "serving" / "withdrawn"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        return self.root / "logs"
