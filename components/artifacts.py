"""Artifact types of ours. All others in the chain are TFX's standard types.

Their names have a dot, and they declare no properties (custom ones serve): TFX's Kubeflow compiler asks for both.
"""

from tfx.types.artifact import Artifact
from tfx.types.system_artifacts import Model


class Production(Artifact):
    """What is live: `production.json`, and, when a version is live, copies of what the next run needs from it.

    Layout below its URI (only `production.json` exists before the first push):

        production.json      {"version": int | null, "learned_until_seconds": int, "spans": [int, …]}
        servable/            the SavedModel in production: the baseline
        trainer/             the Trainer's output it was packed from: the warm start
        statistics/interactions/Split-*/FeatureStats.pb, statistics/catalog/Split-all/FeatureStats.pb
    """

    TYPE_NAME = "evergreen.Production"
    TYPE_ANNOTATION = Model


class DataVerdict(Artifact):
    """The gate's decision: `verdict.json` with `decision`, `reasons`, and the figures behind them."""

    TYPE_NAME = "evergreen.DataVerdict"
