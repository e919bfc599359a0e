"""The gRPC interface of the query service: requests become searches, results become messages, errors status codes."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc
import numpy as np

from services.query.announced import Announced
from services.query.answers import collection_message, fill_answer, fill_hit, image_message
from services.query.records.descriptions import Descriptions
from services.query.records.selection import Selections
from services.query.replica.embedding_rate import images_per_second
from services.query.replica.mapped_segment import Vectors
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.replica.view import spread
from services.query.replica.window_filter import WindowCounts
from services.query.search.across import AcrossSearcher
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.searcher import Searcher
from shared.errors import Invalid, NotFound, Unavailable
from shared.images import ImageRefused
from shared.images.regions import Region
from shared.records.filters import NONE, RecordFilter, parse_filter
from shared.records.model import LABEL
from shared.rpc.query import SearchOptions
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import NO_RETRY
from shared.rpc.query.query_pb2_grpc import QueryServicer
from shared.rpc.serving import ServingError

_log = logging.getLogger(__name__)

_PAGE = 50  # images, where the request names no limit
_MAX_PAGE = 1000
_VALUES = 20  # of a facet, where the request names no limit
_MAX_VALUES = 10_000
_ALL = 2**31 - 1

Response = TypeVar("Response")


class QueryService(QueryServicer):
    """Answers `artseek.query.v1.Query` from a searcher and a replica sync."""

    def __init__(self, searcher: Searcher, replica_sync: ReplicaSync, selections: Selections) -> None:
        self._searcher = searcher
        self._across = AcrossSearcher(searcher, replica_sync)
        self._replica_sync = replica_sync
        self._selections = selections
        self._descriptions = Descriptions(selections)
        self._window_counts = WindowCounts()

    def Search(self, request: messages.SearchRequest, context: grpc.ServicerContext) -> messages.SearchResponse:
        """Return the images most similar to the query."""
        return _answer(context, lambda: self._search(request, context))

    def SearchBatch(
        self, request: messages.SearchBatchRequest, context: grpc.ServicerContext
    ) -> messages.SearchBatchResponse:
        """Return the images most similar to each of many queries."""
        return _answer(context, lambda: self._search_batch(request))

    def SearchAcross(
        self, request: messages.SearchAcrossRequest, context: grpc.ServicerContext
    ) -> messages.SearchAcrossResponse:
        """Return the images of several collections most similar to the query."""
        return _answer(context, lambda: self._search_across(request, context))

    def GetImage(self, request: messages.GetImageRequest, context: grpc.ServicerContext) -> messages.Image:
        """Return one image's entry."""
        return _answer(context, lambda: self._get(request))

    def ListImages(
        self, request: messages.ListImagesRequest, context: grpc.ServicerContext
    ) -> messages.ListImagesResponse:
        """Return a page of a collection's entries, the latest first."""
        return _answer(context, lambda: self._list(request))

    def CountFacets(
        self, request: messages.CountFacetsRequest, context: grpc.ServicerContext
    ) -> messages.CountFacetsResponse:
        """Return how many images have each value of fields."""
        return _answer(context, lambda: self._count_facets(request))

    def ListCollections(
        self, request: messages.ListCollectionsRequest, context: grpc.ServicerContext
    ) -> messages.ListCollectionsResponse:
        """Return the collections, or the one named."""
        return _answer(context, lambda: self._collections(request))

    def _announced(self, *, read: bool = True) -> Announced:
        """Return what was announced before the request that has just come; `read` takes note of it at once."""
        announced = Announced(self._replica_sync, self._selections.record_sync)
        if read:
            announced.read()
        return announced

    def _replica(self, collection: str) -> Replica:
        """Return the replica of a collection as it is after all that was announced until now."""
        self._announced()
        return self._replica_sync.replica(collection, read=False)

    def _search(self, request: messages.SearchRequest, context: grpc.ServicerContext) -> messages.SearchResponse:
        announced = self._announced(read=_asks_records(request))
        search_query = self._search_query(request, **_query(request))
        result, replica = self._searcher.search(search_query, announced=announced, time_left_s=context.time_remaining())
        response = messages.SearchResponse()
        self._fill(request, [response], [result], replica)
        return response

    def _search_across(
        self, request: messages.SearchAcrossRequest, context: grpc.ServicerContext
    ) -> messages.SearchAcrossResponse:
        options = request.options
        query = _query(options)

        def query_of(collection: str) -> SearchQuery:
            return self._search_query(options, collection=collection, **query)

        found = self._across.search(
            request.collections, query_of, announced=self._announced(), time_left_s=context.time_remaining()
        )
        response = messages.SearchAcrossResponse(
            skipped=found.skipped,
            examples=[messages.ExamplePlace(id=image, collection=name) for image, name in found.examples.items()],
            timings_ms=found.timings_ms,
            model=found.embedding_set.model,
            model_version=found.embedding_set.version,
        )
        images = defaultdict(list)
        for name, hit in found.hits:
            message = response.hits.add(collection=name)
            fill_hit(message.hit, hit)
            images[name].append(message.hit.image)
        for name, (result, replica) in found.results.items():
            self._descriptions.add(name, images[name], fields=options.fields)
            fill_answer(response.answers.add(collection=name).found, result, replica, options.metric)
        if options.sort or options.group:
            arranged = self._descriptions.arrange(
                [(placed.collection, placed.hit) for placed in response.hits],
                sort=options.sort,
                group=options.group,
                collections=list(found.results),
            )
            in_order = messages.SearchAcrossResponse(
                hits=[messages.AcrossHit(collection=name, hit=hit) for name, hit in arranged],
                grouped=bool(options.group),
            )
            response.ClearField("hits")
            response.MergeFrom(in_order)
        return response

    def _search_batch(self, request: messages.SearchBatchRequest) -> messages.SearchBatchResponse:
        options = request.options
        if request.options.WhichOneof("query") or request.options.box:
            raise Invalid("the options of a batch hold no query and no box: give the queries in `queries`")
        queries: list[int | Vectors] = []
        for place, query in enumerate(request.queries):
            kind = query.WhichOneof("query")
            if kind is None:
                raise Invalid(f"query {place} of the batch is empty: give an id or a vector")
            queries.append(query.id if kind == "id" else _vector(query.vector))
        announced = self._announced(read=_asks_records(options))
        results, replica = self._searcher.search_batch(self._search_query(options), queries, announced=announced)
        response = messages.SearchBatchResponse()
        self._fill(options, [response.answers.add() for _ in results], results, replica)
        return response

    def _list(self, request: messages.ListImagesRequest) -> messages.ListImagesResponse:
        limit = request.limit or _PAGE
        if not 1 <= limit <= _MAX_PAGE or request.offset < 0:
            raise Invalid(f"limit {limit} and offset {request.offset}: expected 1 to {_MAX_PAGE}, and 0 or more")
        if not 0 <= request.places <= limit:
            raise Invalid(f"places {request.places}: expected 0 to {limit}, the images wanted")
        view = self._replica(request.collection).view
        wanted = _with_labels(parse_filter(request.filter, request.text), [request.label] if request.label else [])
        rows = self._selections.rows(request.collection, view, wanted) if wanted else np.flatnonzero(view.live)
        if request.places:
            page = spread(rows, limit=limit, places=request.places)
        elif request.sort:
            page = self._selections.ordered(request.collection, view, rows, request.sort)
            page = page[request.offset : request.offset + limit]
        else:
            page = view.latest_of(rows, limit=limit, offset=request.offset)
        images = [image_message(*view.place(row)) for row in page.tolist()]
        self._descriptions.add(request.collection, images, whole=request.records, fields=request.fields)
        return messages.ListImagesResponse(images=images, total=len(rows))

    def _count_classes(self, collection: messages.Collection, replica: Replica) -> None:
        """Count the classes by the labels of records, where those say anything of labels."""
        index, view = self._selections.index(collection.name), replica.view
        if index is None or not index.has_labels:
            return
        facets = self._selections.facets(collection.name, view, None, [LABEL], limit=_ALL)
        unlabelled = self._selections.rows(collection.name, view, RecordFilter({LABEL: (NONE,)}))
        collection.classes.clear()
        collection.classes.update({facet.value: facet.count for facet in facets[LABEL]})
        collection.labelled = collection.images - len(unlabelled)

    def _count_windows(self, collection: messages.Collection, replica: Replica) -> None:
        """Count the windows of images, where they are indexed."""
        collection.regions = self._replica_sync.has_regions(collection.name)
        if (windows := self._replica_sync.windows(replica)) is not None:
            collection.with_regions, collection.windows = self._window_counts.of(windows.view, replica.view)

    def _get(self, request: messages.GetImageRequest) -> messages.Image:
        image = image_message(*self._replica(request.collection).find(request.id))
        self._descriptions.add(request.collection, [image], whole=True)
        return image

    def _count_facets(self, request: messages.CountFacetsRequest) -> messages.CountFacetsResponse:
        limit = request.limit or _VALUES
        if not 1 <= limit <= _MAX_VALUES:
            raise Invalid(f"limit {limit}: expected 1 to {_MAX_VALUES} values of a field")
        view = self._replica(request.collection).view
        wanted = parse_filter(request.filter, request.text)
        rows = self._selections.rows(request.collection, view, wanted) if wanted else None
        facets = self._selections.facets(request.collection, view, rows, list(request.fields), limit=limit)
        index = self._selections.index(request.collection)
        return messages.CountFacetsResponse(
            facets=[
                messages.Facet(
                    field=name, values=[messages.FacetValue(value=value.value, count=value.count) for value in values]
                )
                for name, values in facets.items()
            ],
            types={} if index is None else index.field_types(),
            total=view.images if rows is None else len(rows),
            stamp=0 if index is None else index.stamp,
        )

    def _search_query(self, request: messages.SearchRequest, *, collection: str = "", **query: Any) -> SearchQuery:
        """Return the options of a request, for its own collection or another, and a query."""
        options = SearchOptions.from_request(request)
        collection = collection or request.collection
        wanted = parse_filter(options.filter, options.text)
        chosen = None
        index = self._selections.index(collection)
        if wanted or (options.labels and index is not None and index.has_labels):
            with_labels = _with_labels(wanted, options.labels)
            chosen = partial(self._selections.rows, collection, wanted=with_labels)
        return SearchQuery(
            collection=collection,
            for_evaluation=request.for_evaluation,
            chosen=chosen,
            **vars(options),
            **query,
        )

    def _fill(
        self,
        options: messages.SearchRequest,
        answers: Sequence[messages.SearchResponse],
        results: Sequence[SearchResult],
        replica: Replica,
    ) -> None:
        """Write the results of searches into empty answers."""
        for answer, result in zip(answers, results, strict=True):
            fill_answer(answer, result, replica, options.metric)
            for hit in result.hits:
                fill_hit(answer.hits.add(), hit)
        images = [hit.image for answer in answers for hit in answer.hits]
        self._descriptions.add(options.collection, images, fields=options.fields)
        if options.sort or options.group:
            for answer in answers:
                placed = [(options.collection, hit) for hit in answer.hits]
                arranged = self._descriptions.arrange(
                    placed, sort=options.sort, group=options.group, collections=[options.collection]
                )
                in_order = messages.SearchResponse(hits=[hit for _, hit in arranged], grouped=bool(options.group))
                answer.ClearField("hits")
                answer.MergeFrom(in_order)

    def _collections(self, request: messages.ListCollectionsRequest) -> messages.ListCollectionsResponse:
        replicas: Iterable[Replica]
        faults: Mapping[str, str] = {}
        if request.name:
            replicas = [self._replica(request.name)]
        else:
            self._announced()
            self._replica_sync.catch_up(read=False)
            replicas = self._replica_sync.replicas.values()
            faults = self._replica_sync.faults
        found = {}
        for replica in replicas:
            collection = collection_message(replica, self._replica_sync.filling(replica.embedding_set))
            self._count_windows(collection, replica)
            self._count_classes(collection, replica)
            if request.name:
                collection.images_per_second = images_per_second(replica.view)
            found[collection.name] = collection
        for name, fault in faults.items():
            found.setdefault(name, messages.Collection(name=name)).fault = fault
        return messages.ListCollectionsResponse(collections=[collection for _, collection in sorted(found.items())])


def _asks_records(request: messages.SearchRequest) -> bool:
    """Return whether what records say decides which images a search may find."""
    return bool(request.filter or request.text or request.labels)


def _with_labels(wanted: RecordFilter, labels: Sequence[str]) -> RecordFilter:
    """Return a filter that also wants one of these labels, if there are any."""
    if not labels:
        return wanted
    both = wanted.labels
    kept = list(labels) if both is None else [label for label in labels if label in both]
    return RecordFilter({**wanted.criteria, LABEL: tuple(kept)}, wanted.text)


def _query(request: messages.SearchRequest) -> dict[str, Any]:
    """Return what a request searches for, as `SearchQuery` has it."""
    kind = request.WhichOneof("query")
    return {
        "image": request.image if kind == "image" else None,
        "images": tuple(request.images),
        "image_id": request.id if kind == "id" else None,
        "vector": _vector(request.vector) if kind == "vector" else None,
        "box": Region.parse(request.box) if request.box else None,
    }


def _vector(vector: messages.Vector) -> Vectors:
    """Return the numbers of a vector, from its bytes where these are all that the message holds."""
    count, data = len(vector.values), vector.SerializeToString()
    size = 4 * count
    head = 1 + (size.bit_length() + 6) // 7  # bytes of the field's number and of the size
    if len(data) != head + size:
        return np.array(vector.values, dtype=np.float32)
    return np.frombuffer(data, dtype="<f4", offset=head).astype(np.float32)


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
    if code == grpc.StatusCode.UNAVAILABLE:
        context.set_trailing_metadata((NO_RETRY,))  # it has waited for the part that is away
    context.abort(code, str(error))
    raise AssertionError("abort raises")
