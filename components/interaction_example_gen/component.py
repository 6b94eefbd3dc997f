"""InteractionExampleGen: logs in; examples with point-in-time histories, the catalog and the user state out."""

import json

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types.standard_artifacts import Examples

from components.artifacts import Production, UserState
from components.interaction_example_gen.build import Request, build
from components.interaction_example_gen.contract import parse_config, parse_contract
from components.interaction_example_gen.plan import parse_plan


@component(use_beam=True)
def InteractionExampleGen(
    production: InputArtifact[Production],
    examples: OutputArtifact[Examples],
    catalog: OutputArtifact[Examples],
    users: OutputArtifact[Examples],
    state: OutputArtifact[UserState],
    span: Parameter[int],
    plan: Parameter[str],
    data_root: Parameter[str],
    contract: Parameter[str],
    config: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Examples of the spans up to `span`: splits `train` and `eval`; `summary.json` and `rejected/` beside them.

    `plan`, `contract` and `config` are the JSON of ReadPlan, DataContract and ExamplesConfig. `catalog` and `users`
    have one split, `all`. Raises DataError or DataStopped, with what to do.
    """
    with fileio.open(f"{production.uri}/production.json") as stream:
        live = json.load(stream)
    build(
        beam_pipeline,
        Request(
            data_root=data_root,
            contract=parse_contract(contract),
            config=parse_config(config),
            plan=parse_plan(plan),
            learned_until_seconds=live["learned_until_seconds"],
            state_uri=f"{production.uri}/state" if live["start_version"] else None,
            examples_uri=examples.uri,
            catalog_uri=catalog.uri,
            users_uri=users.uri,
            new_state_uri=state.uri,
        ),
    )
    for artifact, splits in ((examples, ["train", "eval"]), (catalog, ["all"]), (users, ["all"])):
        artifact.splits = splits
        artifact.span = span
        examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(artifact, "tfrecords_gzip")
