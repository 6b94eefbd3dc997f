"""What ran, how it ended and how long it took, read from ML Metadata without importing TFX or TensorFlow.

    for run in runs(places):                    # newest first
        print(run.run_id, run.state, run.seconds)
    check_complete(run, ["DataGate", "Trainer"])  # LocalDagRunner goes on past an input it cannot resolve

TFX puts every execution in a context of type `pipeline_run` (named by the run) and one of type `node` (named
`<pipeline>.<node>`). It stores the text of an error only when an executor *returns* one or an input cannot be
resolved; when an executor raises, as ours do, the text is lost with the process. `record_error` keeps it, in the
same property and form as TFX's own.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from components.errors import EvergreenError, RunFailed
from pipeline.places import Places

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore

COMPLETE, CACHED, FAILED, RUNNING = "COMPLETE", "CACHED", "FAILED", "RUNNING"

_RESULT_KEY = "__execution_result__"  # tfx.orchestration.portable.mlmd.execution_lib, TFX 1.16
_STATES = {0: "UNKNOWN", 1: RUNNING, 2: RUNNING, 3: COMPLETE, 4: FAILED, 5: CACHED, 6: "CANCELED"}
_IS_INPUT = {1: False, 2: True, 3: True, 4: False}  # Event.Type: DECLARED_OUTPUT, DECLARED_INPUT, INPUT, OUTPUT
_FRAME = re.compile(r'^ +File ".*", line \d+', re.MULTILINE)


@dataclass(frozen=True)
class Artifact:
    """What a node read or wrote; `properties` are declared and custom ones together."""

    type: str
    uri: str
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """The last execution of a node in a run.

    `inputs` and `outputs` go by channel (`examples`, `model`; a second artifact in a channel is `examples[1]`).
    """

    id: str
    state: str
    seconds: float
    inputs: dict[str, Artifact] = field(default_factory=dict)
    outputs: dict[str, Artifact] = field(default_factory=dict)
    error: str | None = None

    @property
    def cached(self) -> bool:
        return self.state == CACHED

    @property
    def why(self) -> str:
        """The first line of the error, or where to look for it."""
        return self.error.splitlines()[0] if self.error else "its error was not recorded; see the log"


@dataclass(frozen=True)
class Run:
    """One run, its nodes in the order they began. A killed run stays RUNNING: nobody was left to say otherwise."""

    run_id: str
    started: datetime
    seconds: float
    state: str
    nodes: tuple[Node, ...] = ()

    def node(self, node_id: str) -> Node | None:
        """The node of that id, or None if it did not run."""
        return next((node for node in self.nodes if node.id == node_id), None)


def runs(places: Places) -> list[Run]:
    """Every run of the pipeline, newest first; none before the first use.

    Raises EvergreenError when the metadata cannot be read.
    """
    if not places.metadata.is_file():
        return []
    try:
        found = _read(_store(places, writable=False), places.pipeline)
    except Exception as error:  # the C++ store raises a class per status code, without a common base
        raise EvergreenError(f"the metadata {places.metadata} cannot be read: {error}") from error
    return sorted(found, key=lambda run: run.started, reverse=True)


def run(places: Places, run_id: str) -> Run:
    """One run. Raises EvergreenError, naming the newest known ones, when there is none of that id."""
    found = runs(places)
    for candidate in found:
        if candidate.run_id == run_id:
            return candidate
    known = ", ".join(candidate.run_id for candidate in found[:5]) or "none yet"
    raise EvergreenError(f"run {run_id!r} is not in {places.metadata}; newest known: {known}")


def check_complete(run: Run, expected_node_ids: Iterable[str]) -> None:
    """Raises RunFailed, naming every expected node that failed, did not finish or never ran."""
    failed, unfinished, missing = [], [], []
    for node_id in expected_node_ids:
        node = run.node(node_id)
        if node is None:
            missing.append(node_id)
        elif node.state == RUNNING:
            unfinished.append(node_id)
        elif node.state not in (COMPLETE, CACHED):
            failed.append(f"{node_id} failed ({node.why})")
    parts = list(failed)
    if unfinished:
        parts.append(f"{', '.join(unfinished)} did not finish")
    if missing:
        parts.append(f"{', '.join(missing)} never ran")
    if parts:
        raise RunFailed(f"run {run.run_id}: {'; '.join(parts)}. Correct the first cause and run again")


def record_error(places: Places, error: BaseException) -> None:
    """Writes `error` to the newest run's failed executions that carry none. For the `except` around LocalDagRunner."""
    if not places.metadata.is_file():
        return
    store = _store(places, writable=True)
    contexts = store.get_contexts_by_type("pipeline_run")
    if not contexts:
        return
    newest = max(contexts, key=lambda context: context.id)
    failed = [
        execution
        for execution in store.get_executions_by_context(newest.id)
        if _STATES[execution.last_known_state] == FAILED and _RESULT_KEY not in execution.custom_properties
    ]
    for execution in failed:
        text = "".join(traceback.format_exception(error))
        result = json.dumps({"resultMessage": text, "code": 2})  # ExecutionResult as JSON; 2 is gRPC's UNKNOWN
        execution.custom_properties[_RESULT_KEY].string_value = result
    store.put_executions(failed)


def without_traceback(text: str) -> str:
    """The last exception of a traceback, `Type: message` with the message's own lines; other text as it is."""
    frames = list(_FRAME.finditer(text))
    if not frames:
        return text.strip()
    lines = text[frames[-1].end() :].splitlines()[1:]  # [0] is the rest of the frame's own line
    while lines and (not lines[0].strip() or lines[0].startswith(" ")):
        lines = lines[1:]  # the source line; the exception begins at the margin
    return re.sub(r"^(?:\w+\.)+(?=\w+(?::|$))", "", "\n".join(lines).strip())  # components.errors.DataStopped: …


def _store(places: Places, writable: bool) -> MetadataStore:
    from ml_metadata.metadata_store import MetadataStore
    from ml_metadata.proto import metadata_store_pb2

    pb: Any = metadata_store_pb2  # generated, without types
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(places.metadata)
    modes = pb.SqliteMetadataSourceConfig
    config.sqlite.connection_mode = modes.READWRITE if writable else modes.READONLY
    return MetadataStore(config)


def _read(store: MetadataStore, pipeline: str) -> list[Run]:
    node_ids: dict[int, str] = {}
    for context in store.get_contexts_by_type("node"):
        if context.name.startswith(f"{pipeline}."):
            node_id = context.name.removeprefix(f"{pipeline}.")
            node_ids |= {execution.id: node_id for execution in store.get_executions_by_context(context.id)}
    artifacts = _artifacts_by_execution(store, list(node_ids))
    found = []
    for context in store.get_contexts_by_type("pipeline_run"):
        executions = [e for e in store.get_executions_by_context(context.id) if e.id in node_ids]
        executions.sort(key=lambda execution: execution.id)
        last = {node_ids[execution.id]: execution for execution in executions}  # a retry hides what it repeats
        nodes = tuple(
            _node(node_id, execution, artifacts.get(execution.id, ({}, {}))) for node_id, execution in last.items()
        )
        begun = context.create_time_since_epoch
        ended = max([begun, *(execution.last_update_time_since_epoch for execution in executions)])
        started = datetime.fromtimestamp(begun / 1000, tz=timezone.utc)
        found.append(Run(context.name, started, (ended - begun) / 1000, _state(nodes), nodes))
    return found


def _state(nodes: tuple[Node, ...]) -> str:
    states = {node.state for node in nodes}
    if states - {COMPLETE, CACHED, RUNNING}:
        return FAILED
    return RUNNING if RUNNING in states or not states else COMPLETE


def _node(node_id: str, execution: Any, artifacts: tuple[dict[str, Artifact], dict[str, Artifact]]) -> Node:
    seconds = (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000
    state = _STATES.get(execution.last_known_state, "UNKNOWN")
    error = None
    if state == FAILED and _RESULT_KEY in execution.custom_properties:
        result = json.loads(execution.custom_properties[_RESULT_KEY].string_value)
        error = without_traceback(result.get("resultMessage", "")) or f"code {result.get('code')}"
    return Node(node_id, state, seconds, *artifacts, error)


def _artifacts_by_execution(
    store: MetadataStore, execution_ids: list[int]
) -> dict[int, tuple[dict[str, Artifact], dict[str, Artifact]]]:
    """Execution → (inputs, outputs), in two queries however many executions there are."""
    events = store.get_events_by_execution_ids(execution_ids) if execution_ids else []
    artifacts = {a.id: a for a in store.get_artifacts_by_id(sorted({event.artifact_id for event in events}))}
    found: dict[int, tuple[dict[str, Artifact], dict[str, Artifact]]] = {}
    for event in events:
        if event.type not in _IS_INPUT or event.artifact_id not in artifacts:
            continue
        inputs, outputs = found.setdefault(event.execution_id, ({}, {}))
        steps = event.path.steps
        channel = steps[0].key if steps else artifacts[event.artifact_id].type
        index = steps[1].index if len(steps) > 1 else 0
        name = f"{channel}[{index}]" if index else channel
        (inputs if _IS_INPUT[event.type] else outputs)[name] = _artifact(artifacts[event.artifact_id])
    return found


def _artifact(proto: Any) -> Artifact:
    properties = {**proto.properties, **proto.custom_properties}
    values = {name: _value(value) for name, value in properties.items()}
    return Artifact(proto.type, proto.uri, {name: value for name, value in values.items() if value is not None})


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind in ("int_value", "double_value", "string_value", "bool_value") else None
