"""The gRPC side of the query service."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import grpc
import numpy as np

from services.query.replica.mapped_segment import MappedSegment, Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.searcher import Searcher, SearchQuery, SearchResult
from shared.errors import Invalid, NotFound, Unavailable
from shared.images import ImageRefused
from shared.rpc.query import METRIC_NAMES, MODE_NAMES, MODES
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.query_pb2_grpc import QueryServicer
from shared.rpc.serving import ServingError

_log = logging.getLogger(__name__)

_DEFAULT_K = 10
_PAGE = 50
_MAX_PAGE = 1000

Answer = TypeVar("Answer")


class QueryService(QueryServicer):
    """Answers `artseek.query.v1.Query` from a searcher and a follower."""

    def __init__(self, searcher: Searcher, follower: ReplicaSync) -> None:
        self._searcher = searcher
        self._follower = follower

    def Search(self, request: messages.SearchRequest, context: grpc.ServicerContext) -> messages.SearchResponse:
        """Return the images most similar to the query."""
        return _answer(context, lambda: self._search(request, context))

    def SearchBatch(
        self, request: messages.SearchBatchRequest, context: grpc.ServicerContext
    ) -> messages.SearchBatchResponse:
        """Return what is most similar to each of many queries."""
        return _answer(context, lambda: self._search_batch(request))

    def GetImage(self, request: messages.GetImageRequest, context: grpc.ServicerContext) -> messages.Image:
        """Return one image's entry."""
        return _answer(context, lambda: _image(*self._follower.copy(request.collection).find(request.id)))

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
        wanted = replace(
            _wanted(request),
            image=request.image if kind == "image" else None,
            id=request.id if kind == "id" else None,
            vector=_vector(request.vector) if kind == "vector" else None,
        )
        found, copy = self._searcher.search(wanted, time_left_s=context.time_remaining())
        return _response(found, copy, request.metric)

    def _search_batch(self, request: messages.SearchBatchRequest) -> messages.SearchBatchResponse:
        if request.options.WhichOneof("query"):
            raise Invalid("the options of a batch hold no query: give the queries in `queries`")
        queries: list[int | Vectors] = []
        for place, query in enumerate(request.queries):
            kind = query.WhichOneof("query")
            if kind is None:
                raise Invalid(f"query {place} of the batch is empty: give an id or a vector")
            queries.append(query.id if kind == "id" else _vector(query.vector))
        found, copy = self._searcher.search_batch(_wanted(request.options), queries)
        return messages.SearchBatchResponse(answers=[_response(one, copy, request.options.metric) for one in found])

    def _list(self, request: messages.ListImagesRequest) -> messages.ListImagesResponse:
        limit = request.limit or _PAGE
        if not 1 <= limit <= _MAX_PAGE or request.offset < 0:
            raise Invalid(f"limit {limit} and offset {request.offset}: expected 1 to {_MAX_PAGE}, and 0 or more")
        view = self._follower.copy(request.collection).view
        total, rows = view.latest(limit=limit, offset=request.offset, label=request.label)
        return messages.ListImagesResponse(images=[_image(*view.place(row)) for row in rows.tolist()], total=total)

    def _collections(self, request: messages.ListCollectionsRequest) -> messages.ListCollectionsResponse:
        copies: Iterable[Replica]
        if request.name:
            copies = [self._follower.copy(request.name)]
        else:
            self._follower.catch_up()
            copies = (copy for _, copy in sorted(self._follower.copies.items()))
        return messages.ListCollectionsResponse(
            collections=[_collection(copy, self._follower.filling(copy.embedding_set)) for copy in copies]
        )


def _wanted(request: messages.SearchRequest) -> SearchQuery:
    """Return what a request says beside its query."""
    if request.mode not in MODE_NAMES or request.metric not in METRIC_NAMES:
        raise Invalid(f"mode {request.mode} or metric {request.metric} is unknown to this version")
    return SearchQuery(
        collection=request.collection,
        k=request.k or _DEFAULT_K,
        mode=MODE_NAMES[request.mode],
        metric=METRIC_NAMES[request.metric],
        probes=request.probes or None,
        labels=request.labels,
        among=np.fromiter(request.among.values, dtype=np.int64) if request.HasField("among") else None,
        like=request.like,
        unlike=request.unlike,
        min_score=request.min_score if request.HasField("min_score") else None,
        budget=request.budget or None,
        trial=request.trial,
    )


def _vector(vector: messages.Vector) -> Vectors:
    return np.array(vector.values, dtype=np.float32)


def _response(found: SearchResult, copy: Replica, metric: messages.Metric.ValueType) -> messages.SearchResponse:
    hits = [messages.Hit(image=_image(hit.pack, hit.row), score=hit.score, distance=hit.distance) for hit in found.hits]
    return messages.SearchResponse(
        hits=hits,
        mode=MODES[found.mode],
        metric=metric,
        candidates=found.candidates,
        collection_size=copy.view.images,
        timings_ms=found.timings_ms,
        model=copy.embedding_set.model,
        model_version=copy.embedding_set.version,
        generation=found.generation,
        probed_buckets=found.probed,
        truncated_buckets=found.truncated,
        seen=found.seen,
    )


def _image(pack: MappedSegment, row: int) -> messages.Image:
    entry = pack.entry(row)
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


def _collection(copy: Replica, filling: Replica | None) -> messages.Collection:
    manifest, counts, generation = copy.embedding_set, copy.view.counts, copy.generation
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
        damaged=copy.damaged,
        change=None
        if filling is None
        else messages.Change(
            model=filling.embedding_set.model, model_version=filling.embedding_set.version, images=filling.view.images
        ),
    )


def _answer(context: grpc.ServicerContext, make: Callable[[], Answer]) -> Answer:
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
