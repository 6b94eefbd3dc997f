"""What a schema expects of one feature, in words that stand in the sentence of a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

MAX_VALUES = 8


def describe_feature(schema: Schema, feature: Feature) -> str:
    """For example "text, one of A, B, C; 1 value per example; in every example"."""
    from tensorflow_metadata.proto.v0.schema_pb2 import FeatureType

    kinds = {FeatureType.BYTES: "text", FeatureType.INT: "whole numbers", FeatureType.FLOAT: "numbers"}
    words = [kinds.get(feature.type, "values") + _values(schema, feature)]
    if feature.shape.dim:
        words.append(f"{'×'.join(str(dim.size) for dim in feature.shape.dim)} value(s) per example")
    elif feature.HasField("value_count"):
        low, high = feature.value_count.min, feature.value_count.max
        words.append(f"{low} to {high} values per example" if high else f"{low} or more values per example")
    fraction = feature.presence.min_fraction
    if fraction:
        words.append("in every example" if fraction == 1 else f"in at least {fraction:.1%} of examples")
    return "; ".join(words)


def _values(schema: Schema, feature: Feature) -> str:
    domains = {domain.name: domain for domain in schema.string_domain}
    domain = domains.get(feature.domain, feature.string_domain)
    if domain.value:
        more = f" and {len(domain.value) - MAX_VALUES} more" if len(domain.value) > MAX_VALUES else ""
        return f", one of {', '.join(domain.value[:MAX_VALUES])}{more}"
    for bounds in (feature.int_domain, feature.float_domain):
        low = f" from {bounds.min:g}" if bounds.HasField("min") else ""
        high = f" up to {bounds.max:g}" if bounds.HasField("max") else ""
        if low or high:
            return low + high
    return ""
