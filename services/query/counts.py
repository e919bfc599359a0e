"""What the query service counts of requests and searches, for Prometheus."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CANDIDATES = tuple(digit * 10**power for power in range(1, 6) for digit in (1, 2, 5))
_RECALLS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

LATEST: Final = 200
"""Checked answers of a collection that the gauge of recall is the mean of."""


class Counts:
    """Counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "artseek_query_requests", "Requests answered, by gRPC's status.", ["method", "code"], registry=registry
        )
        self.seconds = Histogram(
            "artseek_query_request_seconds",
            "Time until the answer was ready.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.searches = Counter(
            "artseek_query_searches", "Searches answered; each of a batch counts.", ["mode"], registry=registry
        )
        self.stages = Histogram(
            "artseek_query_stage_seconds",
            "Time that searches spent in each stage, a batch as a whole.",
            ["stage", "mode"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.candidates = Histogram(
            "artseek_query_candidates",
            "Images that a search ranked exactly.",
            ["mode"],
            buckets=_CANDIDATES,
            registry=registry,
        )
        buckets = Counter(
            "artseek_query_buckets",
            "Buckets that searches looked into, by where their ids came from.",
            ["source"],
            registry=registry,
        )
        self._from_memory, self._from_redis = buckets.labels("memory"), buckets.labels("redis")
        self.recalls = Histogram(
            "artseek_live_recall",
            "Recall at k of those of the index's answers that were checked by an exact scan.",
            ["collection"],
            buckets=_RECALLS,
            registry=registry,
        )
        self.dropped = Counter(
            "artseek_live_recall_dropped",
            "Answers that were to be checked and were not, since too many waited.",
            ["collection"],
            registry=registry,
        )

    def buckets_read(self, from_memory: int, from_redis: int) -> None:
        """Count buckets that a search looked into."""
        self._from_memory.inc(from_memory)
        self._from_redis.inc(from_redis)
