"""Snapshot: the first node on Kubeflow. The only one that looks at the outside world, and the only one never cached.

On one machine the runner takes the snapshot before it compiles the graph; a package is compiled once and run often.
"""

import logging

from tfx.dsl.component.experimental.annotations import OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.interaction_example_gen.contract import parse_contract
from pipeline.snapshot import take_snapshot

log = logging.getLogger("evergreen.snapshot")


@component
def Snapshot(
    data_root: Parameter[str],
    asked_span: Parameter[int],
    asked_window_spans: Parameter[int],
    default_window_spans: Parameter[int],
    cause: Parameter[str],
    registry_url: Parameter[str],
    contract: Parameter[str],
) -> OutputDict(span=int, window_spans=int, fingerprint=str, registry_id=str, live_version=int):  # type: ignore[valid-type]
    """Looks at the data and the registry.

    Args:
        asked_span: the newest span to read; pipeline.snapshot.NEWEST_SPAN for the newest that has files.
        asked_window_spans: how many spans to read; 0 for `default_window_spans`, the configuration's.
        cause: why the run was begun, in words. Not read: it is here to be seen beside the run.
        contract: a DataContract as JSON.
    """
    seen = take_snapshot(
        parse_contract(contract), data_root, registry_url, asked_span, asked_window_spans or default_window_spans
    )
    log.info(
        "span %d of %s, %d spans back; version %d is live", seen.span, data_root, seen.window_spans, seen.live_version
    )
    return {
        "span": seen.span,
        "window_spans": seen.window_spans,
        "fingerprint": seen.fingerprint,
        "registry_id": seen.registry_id,
        "live_version": seen.live_version,
    }
