"""Snapshot: the first node on Kubeflow. The only one that looks at the outside world, and the only one never cached.

On one machine the runner takes the snapshot before it compiles the graph; a package is compiled once and run often.
"""

import logging
from dataclasses import asdict

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.data_gate.config import GateConfig
from components.interaction_example_gen.contract import parse_config, parse_contract
from pipeline.snapshot import take_snapshot

log = logging.getLogger("evergreen.snapshot")


@component
def Snapshot(
    data_root: Parameter[str],
    asked_span: Parameter[int],
    asked_window_spans: Parameter[int],
    cause: Parameter[str],
    registry_url: Parameter[str],
    contract: Parameter[str],
    examples: Parameter[str],
    gate: Parameter[str],
) -> OutputDict(  # type: ignore[valid-type]
    span=int, plan=str, registry_id=str, live_version=int, start_version=int, overrides=str, asked_at_seconds=int
):
    """Looks at the data and the registry.

    Args:
        asked_span: the newest span to read; pipeline.snapshot.NEWEST_SPAN for the newest that has files.
        asked_window_spans: how many spans to look back on; 0 for the configuration's.
        cause: why the run was begun, in words. Not read: it is here to be seen beside the run.
        contract, examples, gate: DataContract, ExamplesConfig and GateConfig as JSON.
    """
    seen = take_snapshot(
        parse_contract(contract),
        parse_config(examples),
        TypeAdapter(GateConfig).validate_json(gate),
        data_root,
        registry_url,
        asked_span,
        window_spans=asked_window_spans,
    )
    log.info("span %d of %s; version %d is live", seen.span, data_root, seen.live_version)
    return {name: value for name, value in asdict(seen).items() if name != "data_root"}
