"""How far the features of one data set moved since the last accepted span, as TFDV's drift comparators see it.

L-infinity: max over values v of |share now(v) − share before(v)|. Jensen-Shannon: the mean of the two Kullback-Leibler
divergences to the mixture, with logarithms to base 2, over the histograms (Lin 1991). Both lie in [0, 1].
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from components.data_gate.config import GateConfig
from components.data_gate.evidence import Distance, Drift
from trainer.features import (
    IS_TARGET_KEY,
    ITEM_ID_KEY,
    ITEM_IDS_KEY,
    TIMESTAMPS_KEY,
    USER_ID_KEY,
    USER_KEY,
    WEIGHTS_KEY,
)

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

NEW_IN_EVERY_SPAN = {USER_ID_KEY, USER_KEY, ITEM_ID_KEY, ITEM_IDS_KEY, TIMESTAMPS_KEY, IS_TARGET_KEY, WEIGHTS_KEY}


def measure_drift(
    dataset: str,
    schema: Schema,
    now: DatasetFeatureStatisticsList,
    before: DatasetFeatureStatisticsList,
    config: GateConfig,
) -> list[Drift]:
    """One measurement per compared feature that both statistics have with values, in the schema's order.

    A distance beyond the config's strictest bound comes with the value that moved most.
    """
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0.anomalies_pb2 import DriftSkewInfo
    from tensorflow_metadata.proto.v0.schema_pb2 import FeatureType

    with_values = _with_values(now) & _with_values(before)
    compared = [name for name in _chosen(schema, config) if name in with_values]
    if not compared:
        return []
    measured = type(schema)()
    measured.CopyFrom(schema)
    for feature in measured.feature:
        feature.ClearField("drift_comparator")
        if feature.name not in compared:
            continue
        if feature.type == FeatureType.BYTES:
            feature.drift_comparator.infinity_norm.threshold = config.drift_l_infinity.strictest or 0
        else:
            feature.drift_comparator.jensen_shannon_divergence.threshold = config.drift_jensen_shannon.strictest or 0
    found = tfdv.validate_statistics(now, measured, previous_statistics=before)
    kinds = DriftSkewInfo.Measurement
    drifts = {}
    for info in found.drift_skew_info:
        feature_name = ".".join(info.path.step)
        for measurement in info.drift_measurements:
            distance: Distance = "L-infinity" if measurement.type == kinds.L_INFTY else "Jensen-Shannon"
            detail = _detail(found.anomaly_info[feature_name].description if feature_name in found.anomaly_info else "")
            drifts[feature_name] = Drift(dataset, feature_name, distance, measurement.value, detail)
    return [drifts[name] for name in compared if name in drifts]


def _chosen(schema: Schema, config: GateConfig) -> list[str]:
    names = [feature.name for feature in schema.feature]
    if config.drift_features is not None:
        return [name for name in names if name in config.drift_features]
    return [name for name in names if name not in NEW_IN_EVERY_SPAN.union(config.drift_ignored)]


def _with_values(statistics: DatasetFeatureStatisticsList) -> set[str]:
    features = statistics.datasets[0].features if statistics.datasets else []
    found = set()
    for feature in features:
        common = getattr(feature, feature.WhichOneof("stats")).common_stats
        if common.tot_num_values or common.num_non_missing:
            found.add(".".join(feature.path.step) or feature.name)
    return found


def _detail(description: str) -> str:
    value = re.search(r"value with maximum difference is: (.*?)\s*$", description, re.MULTILINE)
    return f"most of all the value {value[1]!r}" if value else ""
