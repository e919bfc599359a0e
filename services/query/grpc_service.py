"""The gRPC interface of the query service: requests become searches, results become messages, errors status codes."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import grpc
import numpy as np

from services.query.replica.mapped_segment import MappedSegment, Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.searcher import Searcher
from shared.errors import Invalid, NotFound, Unavailable
from shared.images import ImageRefused
from shared.rpc.query import MODES, SearchOptions
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.query_pb2_grpc import QueryServicer
from shared.rpc.serving import ServingError

_log = logging.getLogger(__name__)

_PAGE = 50  # images, where the request names no limit
_MAX_PAGE = 1000

Response = TypeVar("Response")


class QueryService(QueryServicer):
    """Answers `artseek.query.v1.Query` from a searcher and a replica sync."""

    def __init__(self, searcher: Searcher, replica_sync: ReplicaSync) -> None:
        self._searcher = searcher
        self._replica_sync = replica_sync

    def Search(self, request: messages.SearchRequest, context: grpc.ServicerContext) -> messages.SearchResponse:
        """Return the images most similar to the query."""
        return _answer(context, lambda: self._search(request, context))

    def SearchBatch(
        self, request: messages.SearchBatchRequest, context: grpc.ServicerContext
    ) -> messages.SearchBatchResponse:
        """Return the images most similar to each of many queries."""
        return _answer(context, lambda: self._search_batch(request))

    def GetImage(self, request: messages.GetImageRequest, context: grpc.ServicerContext) -> messages.Image:
        """Return one image's entry."""
        return _answer(context, lambda: _image(*self._replica_sync.replica(request.collection).find(request.id)))

    def ListImages(
        self, request: messages.ListImagesRequest, context: grpc.ServicerContext
    ) -> messages.ListImagesResponse:
        """Return a page of a collection's entries, the latest first."""
        return _answer(context, lambda: self._list(request))

    def ListCollections(
        self, request: messages.ListCollectionsRequest, context: grpc.ServicerContext
    ) -> messages.ListCollectionsResponse:
        """Return the collections, or the one named."""
        return _answer(context, lambda: self._collections(request))

    def _search(self, request: messages.SearchRequest, context: grpc.ServicerContext) -> messages.SearchResponse:
        kind = request.WhichOneof("query")
        search_query = replace(
            _search_query(request),
            image=request.image if kind == "image" else None,
            image_id=request.id if kind == "id" else None,
            vector=_vector(request.vector) if kind == "vector" else None,
        )
        result, replica = self._searcher.search(search_query, time_left_s=context.time_remaining())
        return _response(result, replica, request.metric)

    def _search_batch(self, request: messages.SearchBatchRequest) -> messages.SearchBatchResponse:
        if request.options.WhichOneof("query"):
            raise Invalid("the options of a batch hold no query: give the queries in `queries`")
        queries: list[int | Vectors] = []
        for place, query in enumerate(request.queries):
            kind = query.WhichOneof("query")
            if kind is None:
                raise Invalid(f"query {place} of the batch is empty: give an id or a vector")
            queries.append(query.id if kind == "id" else _vector(query.vector))
        results, replica = self._searcher.search_batch(_search_query(request.options), queries)
        return messages.SearchBatchResponse(
            answers=[_response(result, replica, request.options.metric) for result in results]
        )

    def _list(self, request: messages.ListImagesRequest) -> messages.ListImagesResponse:
        limit = request.limit or _PAGE
        if not 1 <= limit <= _MAX_PAGE or request.offset < 0:
            raise Invalid(f"limit {limit} and offset {request.offset}: expected 1 to {_MAX_PAGE}, and 0 or more")
        view = self._replica_sync.replica(request.collection).view
        total, rows = view.latest(limit=limit, offset=request.offset, label=request.label)
        return messages.ListImagesResponse(images=[_image(*view.place(row)) for row in rows.tolist()], total=total)

    def _collections(self, request: messages.ListCollectionsRequest) -> messages.ListCollectionsResponse:
        replicas: Iterable[Replica]
        if request.name:
            replicas = [self._replica_sync.replica(request.name)]
        else:
            self._replica_sync.catch_up()
            replicas = (replica for _, replica in sorted(self._replica_sync.replicas.items()))
        return messages.ListCollectionsResponse(
            collections=[
                _collection(replica, self._replica_sync.filling(replica.embedding_set)) for replica in replicas
            ]
        )


def _search_query(request: messages.SearchRequest) -> SearchQuery:
    """Return the options of a request, without its query."""
    options = SearchOptions.from_request(request)
    return SearchQuery(collection=request.collection, for_evaluation=request.trial, **vars(options))


def _vector(vector: messages.Vector) -> Vectors:
    return np.array(vector.values, dtype=np.float32)


def _response(result: SearchResult, replica: Replica, metric: messages.Metric.ValueType) -> messages.SearchResponse:
    hits = [
        messages.Hit(image=_image(hit.segment, hit.row), score=hit.score, distance=hit.distance) for hit in result.hits
    ]
    return messages.SearchResponse(
        hits=hits,
        mode=MODES[result.mode],
        metric=metric,
        candidates=result.candidates,
        collection_size=replica.view.images,
        timings_ms=result.timings_ms,
        model=replica.embedding_set.model,
        model_version=replica.embedding_set.version,
        generation=result.generation,
        probed_buckets=result.probed_buckets,
        truncated_buckets=result.truncated_buckets,
        seen=result.seen,
    )


def _image(segment: MappedSegment, row: int) -> messages.Image:
    entry = segment.entry(row)
    return messages.Image(
        id=entry.id,
        digest=entry.digest,
        name=entry.name,
        label=entry.label or "",
        size=entry.size,
        media_type=entry.media_type,
        width=entry.width,
        height=entry.height,
        added=entry.added,
    )


def _collection(replica: Replica, filling: Replica | None) -> messages.Collection:
    manifest, counts, generation = replica.embedding_set, replica.view.counts, replica.generation
    return messages.Collection(
        name=manifest.collection,
        images=counts.images,
        labelled=counts.classes.total(),
        classes=counts.classes,
        model=manifest.model,
        model_version=manifest.version,
        dim=manifest.dim,
        generation=generation.number if generation else 0,
        created=manifest.created,
        bytes=counts.bytes,
        damaged=replica.damaged,
        change=None
        if filling is None
        else messages.Change(
            model=filling.embedding_set.model, model_version=filling.embedding_set.version, images=filling.view.images
        ),
    )


def _answer(context: grpc.ServicerContext, make: Callable[[], Response]) -> Response:
    """Return what `make` returns; its errors become gRPC status codes."""
    try:
        return make()
    except ServingError as error:  # before NotFound, which a model that is not served is too
        _abort(context, grpc.StatusCode.UNAVAILABLE, error)
    except NotFound as error:
        _abort(context, grpc.StatusCode.NOT_FOUND, error)
    except ImageRefused as error:
        context.set_trailing_metadata((("artseek-code", error.reason),))
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, error)
    except Invalid as error:
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, error)
    except Unavailable as error:
        _abort(context, grpc.StatusCode.UNAVAILABLE, error)


def _abort(context: Any, code: grpc.StatusCode, error: Exception) -> NoReturn:
    context.abort(code, str(error))
    raise AssertionError("abort raises")
