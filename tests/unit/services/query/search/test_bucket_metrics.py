"""Prometheus is told how many buckets came from memory, and what those there take."""

import numpy as np
from prometheus_client import CollectorRegistry

from services.query.search.bucket_cache import BucketCache, HeldBucket
from services.query.search.bucket_metrics import BucketCollector


def test_buckets_are_counted_by_where_they_came_from() -> None:
    cache, registry = BucketCache(1), CollectorRegistry()
    registry.register(BucketCollector(cache))
    assert registry.get_sample_value("artseek_query_buckets_total", {"source": "memory"}) == 0
    cache.count(7, 2)
    cache.count(3, 3)
    cache.keep("art", (0, 0), {b"a": HeldBucket(np.arange(1000), is_truncated=False)})
    assert registry.get_sample_value("artseek_query_buckets_total", {"source": "memory"}) == 5
    assert registry.get_sample_value("artseek_query_buckets_total", {"source": "redis"}) == 5
    held = registry.get_sample_value("artseek_query_buckets_bytes")
    assert held is not None
    assert 8000 <= held < 10_000
