"""What Prometheus reads at /monitoring/prometheus/metrics: in TensorFlow Serving's names where it has one.

One dashboard fits both servers. Latencies are in microseconds, as there; only the counter's name ends in `_total` here
(prometheus_client gives every counter that end).
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.models import Models

MICROSECONDS = (*(float(step * 10**power) for power in range(2, 7) for step in (1, 2, 3, 5, 7)), 1e7)
NO_VERSION = -1
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one server."""

    def __init__(self, models: Models) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            ":tensorflow:serving:request_count", "Requests by model and code.", ("model_name", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._latency = Histogram(
            ":tensorflow:serving:request_latency", "Microseconds from reading a request to its answer.",
            ("model_name", "API", "entrypoint"), buckets=MICROSECONDS, registry=self._registry,
        )  # fmt: skip
        self._rows = Histogram(
            ":tensorflow:serving:batching_session:processed_batch_size", "Rows of a call of the model.",
            ("signature",), buckets=ROWS, registry=self._registry,
        )  # fmt: skip
        self._waited = Histogram(
            ":tensorflow:serving:batching_session:queuing_latency", "Microseconds that its oldest request waited.",
            ("signature",), buckets=MICROSECONDS, registry=self._registry,
        )  # fmt: skip
        self._models = models
        self._registry.register(_Versions(models))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def count(self, entrypoint: str, method: str, model: str, status: str, seconds: float) -> None:
        """One request that was answered; a name that no model has is counted as ''."""
        name = model if model in self._models.names else ""
        self._requests.labels(name, status).inc()
        self._latency.labels(name, method, entrypoint).observe(1e6 * seconds)

    def observe_batch(self, signature: str, rows: int, waited_seconds: float) -> None:
        """One call of a model."""
        self._rows.labels(signature).observe(rows)
        self._waited.labels(signature).observe(1e6 * waited_seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Versions(Collector):
    """What every watcher knows of its versions, when asked."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """1 for the state of each version; and the two versions of each model that an alert compares."""
        family = GaugeMetricFamily(
            "evergreen_model_version_state",
            "1 for the state a version is in.",
            labels=("model_name", "version", "state"),
        )
        for watcher in self._models.watchers:
            for status in watcher.statuses():
                family.add_metric((watcher.settings.name, str(status.version), status.state), 1)
        yield family
        served = GaugeMetricFamily(
            "evergreen_model_served_version", "The newest version in service; -1: none.", labels=("model_name",)
        )
        broken = GaugeMetricFamily(
            "evergreen_model_broken_version",
            "The newest version on disk that cannot be loaded or warmed up; -1: none.",
            labels=("model_name",),
        )
        for watcher in self._models.watchers:
            for gauge, version in ((served, watcher.newest_served), (broken, watcher.newest_broken)):
                gauge.add_metric((watcher.settings.name,), NO_VERSION if version is None else version)
        yield served
        yield broken
