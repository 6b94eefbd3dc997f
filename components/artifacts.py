"""Artifact types of ours. All others in the chain are TFX's standard types."""

from typing import ClassVar

from tfx.types.artifact import Artifact, Property, PropertyType
from tfx.types.system_artifacts import Model


class Production(Artifact):
    """What is live: `production.json`, and, when a version is live, copies of what the next run needs from it.

    Layout below its URI (only `production.json` exists before the first push):

        production.json      {"version": int | null, "learned_until_seconds": int, "spans": [int, …]}
        servable/            the SavedModel in production: the baseline
        trainer/             the Trainer's output it was packed from: the warm start
        statistics/interactions/Split-*/FeatureStats.pb, statistics/catalog/Split-all/FeatureStats.pb
    """

    TYPE_NAME = "Production"
    TYPE_ANNOTATION = Model
    PROPERTIES: ClassVar = {"version": Property(type=PropertyType.INT)}


class DataVerdict(Artifact):
    """The gate's decision: `verdict.json` with `decision`, `reasons`, and the figures behind them."""

    TYPE_NAME = "DataVerdict"
    PROPERTIES: ClassVar = {"decision": Property(type=PropertyType.STRING)}
