"""What the outside world looks like as a run begins. Everything after it goes by these values, and so do caches."""

from dataclasses import dataclass

from components.errors import DataError
from components.interaction_example_gen.contract import DataContract
from components.interaction_example_gen.files import existing_spans, fingerprint, window_spans
from serving.registry import Registry

NEWEST_SPAN = -1


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Values of one run. On Kubeflow each is the output of a node, known only while the run goes on.

    data_root: where the spans are.
    span: the newest span to read.
    window_spans: how many spans to read, `span` the last of them.
    fingerprint: of the files of the window (components.interaction_example_gen.files.fingerprint).
    registry_id: which registry says so; with a new one, no earlier run's push counts.
    live_version: the version in production, 0 for none.
    """

    data_root: str
    span: int
    window_spans: int
    fingerprint: str
    registry_id: str
    live_version: int


def take_snapshot(contract: DataContract, data_root: str, registry_url: str, span: int, window: int) -> Snapshot:
    """Looks at the data and the registry once. `span` may be NEWEST_SPAN: the newest that has files.

    Raises:
      DataError: no span has files, or not the one asked for, or the catalog or the users have none.
    """
    if span == NEWEST_SPAN:
        spans = existing_spans(data_root, contract)
        if not spans:
            raise DataError(f"no span has files: nothing matches {contract.interactions.files!r} below {data_root!r}")
        span = spans[-1]
    seen = fingerprint(data_root, contract, window_spans(span, window))
    registry = Registry(registry_url)
    try:
        registry_id, live = registry.identity(), registry.live()
    finally:
        registry.close()
    return Snapshot(
        data_root=data_root,
        span=span,
        window_spans=window,
        fingerprint=seen,
        registry_id=registry_id,
        live_version=live.version if live else 0,
    )
