"""InteractionExampleGen: logs in; examples with point-in-time histories, the catalog and the user state out."""

import json
from dataclasses import replace

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

from components.artifacts import Production
from components.interaction_example_gen.build import Request, build
from components.interaction_example_gen.contract import parse_config, parse_contract


@component(use_beam=True)
def InteractionExampleGen(
    production: InputArtifact[Production],
    examples: OutputArtifact[Examples],
    catalog: OutputArtifact[Examples],
    users: OutputArtifact[Examples],
    span: Parameter[int],
    window_spans: Parameter[int],
    data_root: Parameter[str],
    contract: Parameter[str],
    config: Parameter[str],
    fingerprint: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Examples of the `window_spans` spans up to `span`: splits `train` and `eval`, and `summary.json` beside them.

    `contract` and `config` are the JSON of DataContract and ExamplesConfig. `fingerprint` (files.fingerprint) is not
    read: it makes the cache know when the data changed. `catalog` and `users` have one split, `all`.
    Raises DataError or DataStopped, with what to do.
    """
    with fileio.open(f"{production.uri}/production.json") as stream:
        live = json.load(stream)
    build(
        beam_pipeline,
        Request(
            data_root=data_root,
            contract=parse_contract(contract),
            config=replace(parse_config(config), window_spans=window_spans),
            span=span,
            learned_until_seconds=live["learned_until_seconds"],
            examples_uri=examples.uri,
            catalog_uri=catalog.uri,
            users_uri=users.uri,
        ),
    )
    for artifact, splits in ((examples, ["train", "eval"]), (catalog, ["all"]), (users, ["all"])):
        artifact.splits = splits
        artifact.span = span
        examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(artifact, "tfrecords_gzip")
