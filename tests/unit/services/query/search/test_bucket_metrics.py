"""Prometheus is told how many buckets came from memory, and what those there take."""

import numpy as np
from prometheus_client import CollectorRegistry

from services.query.counts import Counts
from services.query.search.bucket_cache import BucketCache, HeldBucket
from services.query.search.bucket_metrics import BucketCollector


def test_what_the_buckets_in_memory_take_is_shown() -> None:
    cache, registry = BucketCache(1), CollectorRegistry()
    registry.register(BucketCollector(cache))
    assert registry.get_sample_value("artseek_query_buckets_bytes") == 0
    cache.keep("art", (0, 0), {b"a": HeldBucket(np.arange(1000), is_truncated=False)})
    held = registry.get_sample_value("artseek_query_buckets_bytes")
    assert held is not None
    assert 8000 <= held < 10_000


def test_buckets_are_counted_by_where_they_came_from() -> None:
    counts = Counts()

    def shown() -> list[float | None]:
        name = "artseek_query_buckets_total"
        return [counts.registry.get_sample_value(name, {"source": source}) for source in ("memory", "redis")]

    assert shown() == [0, 0]  # before the first search
    cache = BucketCache(1, counts.buckets_read)
    cache.count(2, 5)
    cache.count(3, 0)
    assert shown() == [5, 5]
