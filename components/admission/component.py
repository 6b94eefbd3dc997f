"""Admission: notes in the registry what the gate decided, and ends the run on a stop.

A node of its own, because TFX deletes what a node wrote that raises: the verdict must outlive the stop.
"""

import json
import logging
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.admission.admit import admit, in_words, record_of
from components.artifacts import DataVerdict
from components.errors import DataStopped
from serving.registry import Registry

log = logging.getLogger("evergreen.admission")


@component
def Admission(
    verdict: InputArtifact[DataVerdict],
    registry_url: Parameter[str],
    registry_id: Parameter[str],
) -> None:
    """Records the spans to learn as pending, or the bad ones as quarantined; nothing is learned before it is done.

    `registry_id` is not read: a new registry has to be told again.
    Raises DataStopped, with the reasons, when the gate decided to stop.
    """
    decided = json.loads((Path(verdict.uri) / "verdict.json").read_text(encoding="utf-8"))
    admitted = admit(decided)
    registry = Registry(registry_url)
    try:
        for span in admitted.spans:
            registry.record_span(span, admitted.state, record_of(span, decided), run=verdict.uri)
    finally:
        registry.close()
    if admitted.stop:
        raise DataStopped(admitted.stop)
    log.info("%s", in_words(decided))
