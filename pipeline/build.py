"""The graph: every node of the chain and what it is told, on one page. The same graph on every engine."""

from tfx.components.example_validator.component import ExampleValidator
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.transform.component import Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.io import fileio
from tfx.proto import transform_pb2

from components.admission.component import Admission
from components.data_gate.component import DataGate
from components.evaluator.component import Evaluator
from components.frozen_schema.component import FrozenSchema
from components.index_builder.component import IndexBuilder
from components.interaction_example_gen.component import InteractionExampleGen
from components.production_model.component import ProductionModel
from components.pusher.component import Pusher
from components.servable_validator.component import ServableValidator
from components.trainer.component import Trainer
from pipeline.config import ConfigError, PipelineConfig, to_json
from pipeline.places import Destination
from pipeline.snapshot import Snapshot


def create_nodes(
    config: PipelineConfig, destination: Destination, snapshot: Snapshot, *, code_version: str
) -> list[BaseNode]:
    """The graph for one span: its nodes in the order of the data's way through them.

    Args:
      config: the configuration; each node gets its leaf of it.
      destination: what is live, and where the next version goes.
      snapshot: what to read and what to compare with; parameters of the nodes, so that caches tell spans apart.
      code_version: pipeline.code_version.code_version().

    Raises:
      ConfigError: schema_dir has no schema.
    """
    registry = {"registry_url": destination.registry_url}
    shelves = {"serving_path": destination.serving_path, "releases_path": destination.releases_path}
    features = {"features": to_json(config.contract.features())}

    production = ProductionModel(
        **registry,
        **shelves,
        registry_id=snapshot.registry_id,
        live_version=snapshot.live_version,
        start_version=snapshot.start_version,
        code_version=code_version,
    )
    live = production.outputs["production"]
    example_gen = InteractionExampleGen(
        production=live,
        span=snapshot.span,
        plan=snapshot.plan,
        data_root=snapshot.data_root,
        contract=to_json(config.contract),
        config=to_json(config.examples),
    )
    examples, catalog = example_gen.outputs["examples"], example_gen.outputs["catalog"]

    statistics_gen = StatisticsGen(examples=examples)
    catalog_statistics_gen = StatisticsGen(examples=catalog).with_id("CatalogStatisticsGen")
    statistics = statistics_gen.outputs["statistics"]
    catalog_statistics = catalog_statistics_gen.outputs["statistics"]
    schema_gen = _schema("interactions", statistics, config).with_id("SchemaGen")
    catalog_schema_gen = _schema("catalog", catalog_statistics, config).with_id("CatalogSchemaGen")
    schema, catalog_schema = schema_gen.outputs["schema"], catalog_schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics, schema=schema)
    catalog_validator = ExampleValidator(statistics=catalog_statistics, schema=catalog_schema).with_id(
        "CatalogExampleValidator"
    )
    gate = DataGate(
        statistics=statistics,
        catalog_statistics=catalog_statistics,
        schema=schema,
        catalog_schema=catalog_schema,
        anomalies=validator.outputs["anomalies"],
        catalog_anomalies=catalog_validator.outputs["anomalies"],
        examples=examples,
        production=live,
        span=snapshot.span,
        config=to_json(config.gate),
        overrides=snapshot.overrides,
        asked_at_seconds=snapshot.asked_at_seconds,
    )
    admission = Admission(verdict=gate.outputs["verdict"], **registry, registry_id=snapshot.registry_id)

    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn="trainer.preprocessing.preprocessing_fn",
        custom_config=features,
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "eval"]),
        disable_statistics=True,
    )
    catalog_transform = Transform(
        examples=catalog,
        schema=catalog_schema,
        preprocessing_fn="trainer.preprocessing.catalog_preprocessing_fn",
        custom_config=features,
        splits_config=transform_pb2.SplitsConfig(analyze=["all"], transform=["all"]),
        disable_statistics=True,
    ).with_id("CatalogTransform")
    for node in (transform, catalog_transform):
        node.add_upstream_node(admission)  # nothing is learned from data that the gate has not let through

    trainer = Trainer(
        examples=transform.outputs["transformed_examples"],
        catalog=catalog_transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        catalog_transform_graph=catalog_transform.outputs["transform_graph"],
        production=live,
        config=to_json(config.model),
    )
    index_builder = IndexBuilder(
        model=trainer.outputs["model"],
        examples=examples,
        users=example_gen.outputs["users"],
        production=live,
        config=to_json(config.index),
    )
    servable = index_builder.outputs["servable"]
    evaluator = Evaluator(
        examples=examples,
        servable=servable,
        production=live,
        strongest_type=config.contract.features().strongest_type,
        config=to_json(config.evaluation),
    )
    servable_validator = ServableValidator(model=servable, config=to_json(config.validator))
    pusher = Pusher(
        model=servable,
        trainer_model=trainer.outputs["model"],
        statistics=statistics,
        catalog_statistics=catalog_statistics,
        examples=examples,
        state=example_gen.outputs["state"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        infra_blessing=servable_validator.outputs["blessing"],
        span=snapshot.span,
        **registry,
        **shelves,
        code_version=code_version,
        config=to_json(config.pusher),
    )
    return [
        production, example_gen, statistics_gen, catalog_statistics_gen, schema_gen, catalog_schema_gen,
        validator, catalog_validator, gate, admission, transform, catalog_transform, trainer, index_builder,
        evaluator, servable_validator, pusher,
    ]  # fmt: skip


def _schema(dataset: str, statistics, config: PipelineConfig):  # type: ignore[no-untyped-def]  # channels, nodes of TFX
    """The schema that data is held against: the frozen one, or, until there is one, what this run's data looks like."""
    if not config.schema_dir:
        return SchemaGen(statistics=statistics, infer_feature_shape=False)
    path = f"{config.schema_dir}/{dataset}.pbtxt"
    if not fileio.exists(path):
        raise ConfigError(f"schema_dir has no {dataset}.pbtxt: {path}; make it: evergreen schema freeze --to …")
    with fileio.open(path) as stream:
        return FrozenSchema(text=stream.read())
