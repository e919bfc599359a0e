"""What the buckets in memory spare, for Prometheus."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.query.search.bucket_cache import BucketCache


class BucketCollector(Collector):
    """Looks at a cache at every scrape."""

    def __init__(self, cache: BucketCache) -> None:
        self._cache = cache

    def describe(self) -> list[Metric]:
        """Return the metrics without values."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """Yield how many buckets were looked into, and what those in memory take."""
        buckets = CounterMetricFamily(
            "artseek_query_buckets",
            "Buckets that searches looked into, by where their ids came from.",
            labels=["source"],
        )
        buckets.add_metric(["memory"], self._cache.found)
        buckets.add_metric(["redis"], self._cache.wanted - self._cache.found)
        yield buckets
        yield GaugeMetricFamily(
            "artseek_query_buckets_bytes",
            "Memory that the buckets which are held take.",
            value=float(self._cache.size),
        )
