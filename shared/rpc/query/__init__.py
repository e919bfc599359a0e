"""The query service's gRPC interface, its client, and the options of a search."""

from shared.rpc.query.client import QueryClient, QueryRefused, QueryUnavailable, largest_first
from shared.rpc.query.options import (
    MAX_AMONG,
    MAX_EXAMPLES,
    MAX_K,
    MAX_LABELS,
    METRIC_NAMES,
    METRICS,
    MODE_NAMES,
    MODES,
    Mode,
    SearchOptions,
)
from shared.rpc.query.query_pb2 import (
    Collection,
    Hit,
    Ids,
    Image,
    ListImagesResponse,
    SearchAcrossRequest,
    SearchAcrossResponse,
    SearchBatchRequest,
    SearchRequest,
    SearchResponse,
    SkippedCollection,
)
from shared.search_limits import MAX_PROBES, Metric

STAGES = ("decode", "embed", "probe", "fetch", "rank", "total")  # of a search, in their order: the keys of `timings_ms`
MAX_BATCH = 256

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
    "ListImagesResponse",
    "Metric",
    "Mode",
    "QueryClient",
    "QueryRefused",
    "QueryUnavailable",
    "SearchAcrossRequest",
    "SearchAcrossResponse",
    "SearchBatchRequest",
    "SearchOptions",
    "SearchRequest",
    "SearchResponse",
    "SkippedCollection",
    "largest_first",
]
