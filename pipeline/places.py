"""Where a pipeline's files are: the only module that knows the layout below EVERGREEN_HOME.

<home>/<pipeline>/artifacts/                  TFX artifacts, node by node
                  metadata.sqlite             ML Metadata: runs, executions, lineage
                  registry.sqlite             what is in production, what was before
                  serving/recommender/<n>/    what the model server watches
                  serving/quarantined/<n>/    versions that were taken out as bad (serving/releases.py)
                  releases/<n>/               what the next run needs of a pushed version
                  reports/<run>/index.html
                  logs/
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "EVERGREEN_HOME"


def project_root() -> Path:
    """The checkout, or the working folder where Evergreen is installed as a package."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "setup.py").exists() else Path.cwd()


@dataclass(frozen=True)
class Destination:
    """Where a run ships to: the registry (SQLAlchemy URL), the folder of servables and that of their releases."""

    registry_url: str
    serving_path: str
    releases_path: str


@dataclass(frozen=True)
class Places:
    """Paths of one pipeline; nothing is created here, each writer makes its own folder."""

    home: Path
    pipeline: str

    @classmethod
    def from_environment(cls, pipeline: str) -> Places:
        """Below `$EVERGREEN_HOME`, or `.evergreen` in the project's root when it is unset. For entry points only."""
        home = os.environ.get(HOME_VARIABLE) or project_root() / ".evergreen"
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
    def destination(self) -> Destination:
        return Destination(f"sqlite:///{self.registry.absolute()}", str(self.serving), str(self.releases))

    @property
    def serving(self) -> Path:
        return self.root / "serving" / "recommender"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        return self.root / "logs"
