"""What the buckets in memory take, for Prometheus."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
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
        """Yield what the buckets that are held take."""
        yield GaugeMetricFamily(
            "artseek_query_buckets_bytes",
            "Memory that the buckets which are held take.",
            value=float(self._cache.size),
        )
