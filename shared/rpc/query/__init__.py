"""The query service's gRPC interface and its client."""

from typing import Literal

from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import QueryClient, QueryRefused, QueryUnavailable
from shared.rpc.query.query_pb2 import (
    METRIC_COSINE,
    METRIC_EUCLIDEAN,
    MODE_AUTO,
    MODE_EXACT,
    MODE_LSH,
    Collection,
    Hit,
    Ids,
    Image,
    SearchBatchRequest,
    SearchRequest,
    SearchResponse,
)

Metric = Literal["cosine", "euclidean"]
Mode = Literal["auto", "lsh", "exact"]

METRICS: dict[Metric, messages.Metric.ValueType] = {"cosine": METRIC_COSINE, "euclidean": METRIC_EUCLIDEAN}
MODES: dict[Mode, messages.Mode.ValueType] = {"auto": MODE_AUTO, "lsh": MODE_LSH, "exact": MODE_EXACT}
STAGES = ("decode", "embed", "probe", "fetch", "rank", "total")  # of a search, in their order: the keys of `timings_ms`
MAX_K = 1000
MAX_PROBES = 1024
MAX_LABELS = 1000
MAX_AMONG = 100_000
MAX_EXAMPLES = 64  # of each kind
MAX_BATCH = 256
METRIC_NAMES = {value: name for name, value in METRICS.items()}
MODE_NAMES = {value: name for name, value in MODES.items()}

__all__ = [
    "MAX_AMONG",
    "MAX_BATCH",
    "MAX_EXAMPLES",
    "MAX_K",
    "MAX_LABELS",
    "MAX_PROBES",
    "METRICS",
    "METRIC_NAMES",
    "MODES",
    "MODE_NAMES",
    "STAGES",
    "Collection",
    "Hit",
    "Ids",
    "Image",
    "Metric",
    "Mode",
    "QueryClient",
    "QueryRefused",
    "QueryUnavailable",
    "SearchBatchRequest",
    "SearchRequest",
    "SearchResponse",
]
