"""What the outside world looks like as a run begins. Everything after it goes by these values, and so do caches."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from components.data_gate.config import GateConfig
from components.errors import DataError
from components.interaction_example_gen.contract import DataContract, ExamplesConfig
from components.interaction_example_gen.files import existing_spans
from components.interaction_example_gen.plan import Learned, ReadPlan, make_plan
from serving.lineage import condemned, start_of
from serving.registry import Registry
from serving.registry_records import SpanRecord, Version

NEWEST_SPAN = -1


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Values of one run. On Kubeflow each is the output of a node, known only while the run goes on.

    data_root: where the spans are.
    span: the newest span to read.
    plan: which spans to learn and where the history before them comes from, a ReadPlan as JSON; it holds a fingerprint
      of every file, so that a cached result is used only while the data is the same.
    registry_id: which registry says so; with a new one, no earlier run's push counts.
    live_version: the version in production, 0 for none.
    start_version: the version that the run goes on from, 0 for none: the live one, unless it learned what is condemned.
    overrides: spans that a person accepted, as DataGate takes them.
    asked_at_seconds: now, where the gate asks how fresh the data is; else 0, so that caches hold.
    """

    data_root: str
    span: int
    plan: str
    registry_id: str
    live_version: int
    start_version: int
    overrides: str
    asked_at_seconds: int


def take_snapshot(
    contract: DataContract,
    examples: ExamplesConfig,
    gate: GateConfig,
    data_root: str,
    registry_url: str,
    span: int,
    *,
    window_spans: int = 0,
    now: Callable[[], float] = time.time,
) -> Snapshot:
    """Looks at the data and the registry once.

    Args:
      span: the newest to read; NEWEST_SPAN: the newest that has files.
      window_spans: instead of the configuration's; 0: as configured.
      now: seconds since 1970.

    Raises:
      DataError: no span has files, or not the one asked for, or the catalog or the users have none.
      NothingNew: production has learned all there is, or the newest span is condemned.
    """
    if span == NEWEST_SPAN:
        spans = existing_spans(data_root, contract)
        if not spans:
            raise DataError(f"no span has files: nothing matches {contract.interactions.files!r} below {data_root!r}")
        span = spans[-1]
    registry = Registry(registry_url)
    try:
        registry_id, live, ledger = registry.identity(), registry.live(), registry.spans()
        bad, versions = condemned(registry.span_records()), registry.versions()
    finally:
        registry.close()
    start = start_of(versions, bad)
    plan = make_plan(
        data_root,
        contract,
        replace(examples, window_spans=window_spans) if window_spans else examples,
        span,
        learned=learned_by(start),
        quarantined={r.span: r.verdict.get("fingerprint", "") for r in ledger if r.state == "quarantined"},
        condemned={one.span: {o.fingerprint: str(o) for o in bad if o.span == one.span} for one in bad},
    )
    return Snapshot(
        data_root=data_root,
        span=span,
        plan=plan.to_json(),
        registry_id=registry_id,
        live_version=live.version if live else 0,
        start_version=start.version if start else 0,
        overrides=json.dumps({str(r.span): r.verdict["override"] for r in ledger if _is_accepted(r, plan)}),
        asked_at_seconds=int(now()) if gate.max_staleness_hours.strictest is not None else 0,
    )


def _is_accepted(record: SpanRecord, plan: ReadPlan) -> bool:
    """Whether a person accepted the very files that the run will read."""
    is_same = record.verdict.get("fingerprint") == plan.fingerprints.get(record.span)
    return record.span in plan.learn and is_same and "override" in record.verdict


def learned_by(start: Version | None) -> Learned:
    """What a version has learned, by its manifest; nothing without one."""
    lineage = start.manifest.get("lineage") if start else None
    if not lineage:
        return Learned()
    return Learned(
        spans={int(span): seen for span, seen in lineage["learned"].items()},
        in_state=tuple(lineage["in_state"]),
        reads_as=lineage["reads_as"],
    )
