"""What the gate lets pass. A leaf of the pipeline's configuration."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GateConfig:
    """Bounds of the gate's checks; a figure on its bound passes.

    A new period has other users and other favourites, so the bounds of drift are wide: only gross drift stops a run.
    Drift is the distance in [0, 1] between a feature's values now and in the last accepted span: L-infinity, the
    largest change of any value's share, for categories; Jensen-Shannon divergence for numbers.
    """

    drift_l_infinity: float = Field(default=0.3, ge=0, le=1)
    drift_jensen_shannon: float = Field(default=0.3, ge=0, le=1)
    drift_features: tuple[str, ...] | None = None  # None: all but ids, times, the mask and `drift_ignored`
    drift_ignored: tuple[str, ...] = ("popularity",)  # we count it over a window, so it grows with the window
    max_rejected_fraction: float = Field(default=0.01, ge=0, le=1)
    min_targets: int = Field(default=1, ge=0)  # interactions to learn from in the train split
    quoted_anomalies: int = Field(default=5, ge=1)  # of each data set; the rest is counted
