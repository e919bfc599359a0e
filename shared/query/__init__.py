"""The query service's gRPC interface and its client."""

from typing import Literal

from shared.query import query_pb2 as messages
from shared.query.client import QueryClient, QueryRefused, QueryUnavailable
from shared.query.query_pb2 import (
    METRIC_COSINE,
    METRIC_EUCLIDEAN,
    MODE_AUTO,
    MODE_EXACT,
    MODE_LSH,
    Collection,
    Hit,
    Image,
    SearchRequest,
    SearchResponse,
)

Metric = Literal["cosine", "euclidean"]
Mode = Literal["auto", "lsh", "exact"]

METRICS: dict[Metric, messages.Metric.ValueType] = {"cosine": METRIC_COSINE, "euclidean": METRIC_EUCLIDEAN}
MODES: dict[Mode, messages.Mode.ValueType] = {"auto": MODE_AUTO, "lsh": MODE_LSH, "exact": MODE_EXACT}
STAGES = ("decode", "embed", "probe", "rank", "total")  # of a search, in their order: the keys of `timings_ms`
METRIC_NAMES = {value: name for name, value in METRICS.items()}
MODE_NAMES = {value: name for name, value in MODES.items()}

__all__ = [
    "METRICS",
    "METRIC_NAMES",
    "MODES",
    "MODE_NAMES",
    "STAGES",
    "Collection",
    "Hit",
    "Image",
    "Metric",
    "Mode",
    "QueryClient",
    "QueryRefused",
    "QueryUnavailable",
    "SearchRequest",
    "SearchResponse",
]
