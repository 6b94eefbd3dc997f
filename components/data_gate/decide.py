"""The gate's decision: figures in, a verdict with one sentence per check out. No files, no TFDV.

verdict = decide(evidence, config, overrides)
verdict.decision                # "go", "warn" or "stop"
verdict.sentences("failed")     # the reasons
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

from components.data_gate.check_spans import check_span
from components.data_gate.config import GateConfig
from components.data_gate.evidence import Drift, Evidence
from components.data_gate.verdict import Check, Outcome, Override, Verdict, ask


def decide(evidence: Evidence, config: GateConfig, overrides: Mapping[int, Override] | None = None) -> Verdict:
    """Asks every question that the evidence has figures for; `overrides` are the spans that a person accepted."""
    spans = sorted(evidence.learned) or [evidence.span]
    return Verdict(
        span=evidence.span,
        spans={span: evidence.label(span) for span in spans},
        checks=tuple(_checks(evidence, config)),
        overrides={span: override for span, override in (overrides or {}).items() if span in spans},
        fingerprints={span: figures.fingerprint for span, figures in evidence.learned.items()},
    )


def _checks(evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    for name in evidence.datasets:
        yield _schema(name, evidence, config)
    for drift in evidence.drifts:
        yield from _drift(drift, config)
    yield from _freshness(evidence, config)
    yield from _new_users(evidence, config)
    if evidence.targets is not None:
        says = f"{evidence.targets:,} interactions to learn from"
        yield from ask("targets", says, evidence.targets, config.min_targets, "count", at_least=True)
    for span in sorted(evidence.learned):
        yield from check_span(span, evidence, config)


def _schema(dataset: str, evidence: Evidence, config: GateConfig) -> Check:
    found = [anomaly for anomaly in evidence.anomalies if anomaly.dataset == dataset]
    errors = [anomaly for anomaly in found if anomaly.is_error]
    name, figure = f"schema of {dataset}", float(len(errors))
    if not found:
        sentence = f"{dataset}: every feature fits the schema"
        return Check(name=name, outcome="passed", sentence=sentence, figure=figure, stop=0, unit="count")
    shown = sorted(found, key=lambda anomaly: not anomaly.is_error)[: config.quoted_anomalies]
    words = [f"{a.feature}: {a.summary} (got: {a.got}; expected: {a.expected})" for a in shown]
    if more := len(found) - len(shown):
        words.append(f"and {more} more")
    severity = f"{len(errors)} anomalies" if errors else f"{len(found)} warnings"
    sentence = f"{dataset}: {severity} against the schema. {'; '.join(words)}"
    outcome: Outcome = "failed" if errors else "warned"
    return Check(name=name, outcome=outcome, sentence=sentence, figure=figure, stop=0, unit="count")


def _drift(drift: Drift, config: GateConfig) -> Iterator[Check]:
    bound = config.drift_l_infinity if drift.distance == "L-infinity" else config.drift_jensen_shannon
    is_near = bound.strictest is not None and drift.value <= bound.strictest
    says = (
        f"{drift.dataset}: {drift.feature} {'is' if is_near else 'drifted'} {drift.value:.3f} away from the last "
        f"accepted span by {drift.distance}"
    )
    yield from ask(f"drift of {drift.feature}", says, drift.value, bound, "distance", detail=drift.detail)


def _freshness(evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    events = [f.last_timestamp_seconds for f in evidence.learned.values() if f.last_timestamp_seconds is not None]
    if not events or not evidence.asked_at_seconds:
        return
    hours = (evidence.asked_at_seconds - max(events)) / 3600
    newest = datetime.fromtimestamp(max(events), tz=timezone.utc)
    says = f"the newest event was {hours:,.1f} hours old as the run began ({newest:%Y-%m-%d %H:%M} UTC)"
    yield from ask("freshness", says, hours, config.max_staleness_hours, "hours")


def _new_users(evidence: Evidence, config: GateConfig) -> Iterator[Check]:
    learned, new = evidence.users_learned, evidence.users_new
    if not learned or new is None or not evidence.accepted:  # in the first run every user is new
        return
    says = f"{new:,} of {learned:,} users have no history ({new / learned:.2%})"
    yield from ask("new users", says, new / learned, config.new_user_fraction)
