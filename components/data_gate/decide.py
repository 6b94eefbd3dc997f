"""The gate's decision: figures in, a verdict with one sentence per check out. No files, no TFDV.

verdict = decide(evidence, config)
verdict.decision    # "go" or "stop"
verdict.reasons     # the sentences of the checks that failed
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.data_gate.config import GateConfig

Distance = Literal["L-infinity", "Jensen-Shannon"]


@dataclass(frozen=True)
class Anomaly:
    """One departure from the schema: what was found in `got`, against what the schema says of the feature."""

    dataset: str
    feature: str
    summary: str
    got: str
    expected: str
    is_error: bool = True


@dataclass(frozen=True)
class Drift:
    """How far one feature moved since the last accepted span; `detail` names the value that moved most, or is ''."""

    dataset: str
    feature: str
    distance: Distance
    value: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is judged. `datasets` are those held against a schema; `rows_*` and `targets` None without a summary."""

    datasets: tuple[str, ...]
    anomalies: tuple[Anomaly, ...] = ()
    drifts: tuple[Drift, ...] = ()
    rows_read: int | None = None
    rows_rejected: dict[str, int] | None = None  # reason → rows
    targets: int | None = None


@dataclass(frozen=True)
class Check:
    """One question that was asked of the data; `figure` is held against `bound`."""

    name: str
    passed: bool
    sentence: str
    figure: float
    bound: float


@dataclass(frozen=True)
class Verdict:
    """Go, or stop; never stop without a check that failed."""

    decision: Literal["go", "stop"]
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """The sentences of the checks that failed."""
        return [check.sentence for check in self.checks if not check.passed]

    def stop_message(self, span: int) -> str:
        """One or two lines for the person who runs the pipeline; the whole verdict is in the registry."""
        shown, more = self.reasons[:2], len(self.reasons) - 2
        reasons = " | ".join(shown) + (f" | and {more} more" if more > 0 else "")
        return (
            f"span {span} stopped by {len(self.reasons)} of {len(self.checks)} checks: {reasons}\n"
            "Nothing was trained; the span is quarantined. Correct its data, or the gate's bounds, and run it again"
        )

    def to_json(self) -> dict[str, Any]:
        """The verdict as it stands in `verdict.json` and in the registry."""
        checks = [asdict(check) for check in self.checks]
        return {"decision": self.decision, "reasons": self.reasons, "checks": checks}


def decide(evidence: Evidence, config: GateConfig) -> Verdict:
    """Stops when any check fails."""
    checks = (
        *(_schema(name, evidence.anomalies, config) for name in evidence.datasets),
        *(_drift(drift, config) for drift in evidence.drifts),
        *_rejected(evidence, config),
        *_targets(evidence, config),
    )
    return Verdict("go" if all(check.passed for check in checks) else "stop", checks)


def _schema(dataset: str, anomalies: Iterable[Anomaly], config: GateConfig) -> Check:
    found = [anomaly for anomaly in anomalies if anomaly.dataset == dataset]
    errors = [anomaly for anomaly in found if anomaly.is_error]
    name, count = f"schema of {dataset}", float(len(errors))
    if not found:
        return Check(name, True, f"{dataset}: every feature fits the schema", count, 0)
    shown = sorted(found, key=lambda anomaly: not anomaly.is_error)[: config.quoted_anomalies]
    words = [f"{a.feature}: {a.summary} (got: {a.got}; expected: {a.expected})" for a in shown]
    if more := len(found) - len(shown):
        words.append(f"and {more} more")
    severity = f"{len(errors)} anomalies" if errors else f"{len(found)} warnings"
    return Check(name, not errors, f"{dataset}: {severity} against the schema. {'; '.join(words)}", count, 0)


def _drift(drift: Drift, config: GateConfig) -> Check:
    bound = config.drift_l_infinity if drift.distance == "L-infinity" else config.drift_jensen_shannon
    passed = drift.value <= bound  # NaN does not pass
    sentence = (
        f"{drift.dataset}: {drift.feature} {'is' if passed else 'drifted'} {drift.value:.3f} away from the last "
        f"accepted span by {drift.distance}; {bound:.3f} is allowed"
    )
    detail = f" ({drift.detail})" if drift.detail and not passed else ""
    return Check(f"drift of {drift.feature}", passed, sentence + detail, drift.value, bound)


def _rejected(evidence: Evidence, config: GateConfig) -> Iterable[Check]:
    if evidence.rows_read is None or evidence.rows_rejected is None:
        return
    read, rejected = evidence.rows_read, sum(evidence.rows_rejected.values())
    fraction, bound = (rejected / read if read else 0.0), config.max_rejected_fraction
    reasons = sorted(evidence.rows_rejected.items(), key=lambda entry: -entry[1])
    listed = ", ".join(f"{count} × {reason}" for reason, count in reasons if count)
    sentence = f"{rejected} of {read} rows rejected ({fraction:.2%}); {bound:.2%} is allowed"
    yield Check("rejected rows", fraction <= bound, sentence + (f" ({listed})" if listed else ""), fraction, bound)


def _targets(evidence: Evidence, config: GateConfig) -> Iterable[Check]:
    if evidence.targets is None:
        return
    sentence = f"{evidence.targets} interactions to learn from; at least {config.min_targets} are needed"
    yield Check("targets", evidence.targets >= config.min_targets, sentence, evidence.targets, config.min_targets)
