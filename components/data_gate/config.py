"""What the gate lets pass. A leaf of the pipeline's configuration."""

from dataclasses import fields
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT


@dataclass(frozen=True, config=STRICT)
class Threshold:
    """Beyond `warn` the verdict says so, beyond `stop` the run ends; a figure on its bound passes. None: never."""

    warn: float | None = Field(default=None, ge=0)
    stop: float | None = Field(default=None, ge=0)

    @property
    def strictest(self) -> float | None:
        """Of an upper bound; None where nothing is asked."""
        return self.stop if self.warn is None else self.warn


def _stop_at(bound: Any) -> Any:
    return {"stop": bound} if isinstance(bound, int | float) and not isinstance(bound, bool) else bound


def _is_fraction(bound: Threshold) -> Threshold:
    if max(bound.warn or 0, bound.stop or 0) > 1:
        raise ValueError("a fraction is at most 1; 0.05 is 5%")
    return bound


Bound = Annotated[Threshold, BeforeValidator(_stop_at)]  # in the configuration a number is where the run stops
Fraction = Annotated[Bound, AfterValidator(_is_fraction)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GateConfig:
    """Bounds of the gate's checks: `rejected_fraction: 0.05` stops, `{warn: 0.01, stop: 0.05}` also warns before.

    A new period has other users and other favourites, so the bounds of drift are wide: only gross drift stops a run.
    Drift is the distance in [0, 1] between a feature's values now and in the last accepted span: L-infinity, the
    largest change of any value's share, for categories; Jensen-Shannon divergence for numbers.
    """

    # Of the whole run:
    drift_l_infinity: Fraction = Threshold(warn=0.2, stop=0.3)
    drift_jensen_shannon: Fraction = Threshold(warn=0.2, stop=0.3)
    drift_features: tuple[str, ...] | None = None  # None: all but ids, times, the mask and `drift_ignored`
    drift_ignored: tuple[str, ...] = ("popularity",)  # we count it over a window, so it grows with the window
    quoted_anomalies: int = Field(
        default=5, ge=1
    )  # of each data set, and reasons of rejected rows; the rest is counted
    max_staleness_hours: Bound = Threshold()  # from the newest event to the run's beginning; off: old logs are replayed
    new_user_fraction: Fraction = Threshold(warn=0.98)  # all users new: are they still spelled as they were?
    min_targets: Bound = Threshold(stop=1)  # interactions to learn from in the train split
    # Of each span that is learned:
    volume_spans: int = Field(default=7, ge=3)  # its rows are held against the median of as many spans before it
    min_volume_fraction: Bound = Threshold(warn=0.5, stop=0.1)  # of that median: an export that broke off
    max_volume_fraction: Bound = Threshold(warn=3, stop=10)  # of that median: written twice, or robots
    rejected_fraction: Fraction = Threshold(stop=0.01)  # of the rows read, without the next two, which are judged apart
    unknown_item_fraction: Fraction = Threshold(warn=0.02, stop=0.2)  # rows of items that are not in the catalog
    future_fraction: Fraction = Threshold(warn=0, stop=0.01)  # timestamps later than their file: a wrong clock or unit
    duplicate_fraction: Fraction = Threshold(warn=0.05, stop=0.3)  # senders that retry are usual
    out_of_span_fraction: Fraction = Threshold(warn=0, stop=0.05)  # of the accepted rows; where spans are dates
    late_fraction: Fraction = Threshold(warn=0.1)  # of the accepted rows: older than the newest event of spans before
    label_balance: Fraction = Threshold(warn=0.15, stop=0.3)  # largest change of any interaction type's share
    # Not the gate's: read by `evergreen check-freshness`.
    max_silence_minutes: float = Field(default=1440, gt=0)

    def __post_init__(self) -> None:
        for name, bound in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if not isinstance(bound, Threshold) or bound.warn is None or bound.stop is None:
                continue
            is_lower = name in ("min_volume_fraction", "min_targets")
            if bound.warn < bound.stop if is_lower else bound.warn > bound.stop:
                raise ValueError(
                    f"{name} stops at {bound.stop:g}, before it warns at {bound.warn:g}; "
                    f"expected warn {'>=' if is_lower else '<='} stop"
                )
