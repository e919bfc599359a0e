"""The client of the query service."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Self, TypeVar

import grpc

from shared.errors import Invalid, NotFound, Unavailable
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.query_pb2_grpc import QueryStub
from shared.rpc.tls import GrpcTls, Options, open_channel

DEADLINE_S = 30.0
MAX_MESSAGE = 128 * 2**20  # the largest image file that a setting may admit fits

_CALLS = {
    # Replicas of the service are asked in turn, where its name has the addresses of several.
    "loadBalancingConfig": [{"round_robin": {}}],
    # A process that dies or stops takes requests with it that it works on or has not begun; the others, or its
    # successor, answer them. What a process has answered with UNAVAILABLE, since another part is away, it asks not to
    # be sent again.
    "methodConfig": [
        {
            "name": [{"service": "artseek.query.v1.Query"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",  # a connection that failed is tried again after as long
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
}
_OPTIONS: Options = [
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.service_config", json.dumps(_CALLS)),
]
NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""Metadata by which a server keeps a client from sending a request again."""

Answer = TypeVar("Answer")


class QueryUnavailable(Unavailable):
    """The query service, or a part that the answer needs, did not answer in time."""


class QueryRefused(Invalid):
    """The query service refused the request; `code` is a short word such as ``corrupt`` or ``invalid``."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class QueryClient:
    """Calls the query service, within a deadline in seconds.

    Every call raises `NotFound` (collection or image), `QueryRefused` (the request does not fit) or
    `QueryUnavailable`.
    """

    def __init__(self, target: str, *, tls: GrpcTls | None = None, deadline_s: float = DEADLINE_S) -> None:
        self._target = target
        self._deadline_s = deadline_s
        self._channel = open_channel(target, tls, _OPTIONS)
        self._stub = QueryStub(self._channel)

    def search(self, request: messages.SearchRequest) -> messages.SearchResponse:
        """Return the images most similar to the query."""
        return self._call(self._stub.Search, request, messages.SearchResponse)

    def search_batch(self, request: messages.SearchBatchRequest) -> messages.SearchBatchResponse:
        """Return the images most similar to each of many queries."""
        return self._call(self._stub.SearchBatch, request, messages.SearchBatchResponse)

    def search_across(self, request: messages.SearchAcrossRequest) -> messages.SearchAcrossResponse:
        """Return the images of several collections most similar to the query."""
        return self._call(self._stub.SearchAcross, request, messages.SearchAcrossResponse)

    def image(self, collection: str, image: int) -> messages.Image:
        """Return the entry of an image."""
        return self._call(
            self._stub.GetImage, messages.GetImageRequest(collection=collection, id=image), messages.Image
        )

    def images(
        self,
        collection: str,
        *,
        limit: int = 50,
        offset: int = 0,
        label: str = "",
        filter: str = "",  # noqa: A002 -- as the API calls it
        text: str = "",
        sort: str = "",
        records: bool = False,
        fields: Sequence[str] = (),
    ) -> messages.ListImagesResponse:
        """Return entries of a collection, by default the latest added first.

        Each comes with its record if `records` is set, or with those of its fields that are named.
        """
        request = messages.ListImagesRequest(
            collection=collection,
            limit=limit,
            offset=offset,
            label=label,
            filter=filter,
            text=text,
            sort=sort,
            records=records,
            fields=fields,
        )
        return self._call(self._stub.ListImages, request, messages.ListImagesResponse)

    def sample(self, collection: str, *, count: int, places: int) -> messages.ListImagesResponse:
        """Return at most `count` entries, from so many evenly spaced places of a collection."""
        request = messages.ListImagesRequest(collection=collection, limit=count, places=places)
        return self._call(self._stub.ListImages, request, messages.ListImagesResponse)

    def facets(
        self,
        collection: str,
        *,
        filter: str = "",  # noqa: A002 -- as the API calls it
        text: str = "",
        fields: Sequence[str] = (),
        limit: int = 20,
    ) -> messages.CountFacetsResponse:
        """Return how many images have each value of fields, by default of those that suit."""
        request = messages.CountFacetsRequest(
            collection=collection, filter=filter, text=text, fields=fields, limit=limit
        )
        return self._call(self._stub.CountFacets, request, messages.CountFacetsResponse)

    def collections(self) -> list[messages.Collection]:
        """Return every collection, by name."""
        return self._collections(messages.ListCollectionsRequest())

    def collection(self, name: str) -> messages.Collection:
        """Return one collection."""
        return self._collections(messages.ListCollectionsRequest(name=name))[0]

    def _collections(self, request: messages.ListCollectionsRequest) -> list[messages.Collection]:
        answer = self._call(self._stub.ListCollections, request, messages.ListCollectionsResponse)
        return list(answer.collections)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: Callable[..., object], request: object, kind: type[Answer]) -> Answer:
        try:
            answer = method(request, timeout=self._deadline_s, wait_for_ready=False)
            if not isinstance(answer, kind):
                raise TypeError(f"the query service answered with {type(answer).__name__}, expected {kind.__name__}")
            return answer
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code == grpc.StatusCode.NOT_FOUND:
                raise NotFound(details) from error
            if code == grpc.StatusCode.INVALID_ARGUMENT:
                metadata = {item.key: item.value for item in error.trailing_metadata() or ()}
                raise QueryRefused(details, str(metadata.get("artseek-code", "invalid"))) from error
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise QueryUnavailable(f"no answer from the query service within {self._deadline_s:g} s") from error
            raise QueryUnavailable(f"query service at {self._target}: {details or code.name.lower()}") from error


def largest_first(collections: Iterable[messages.Collection], first: str = "") -> list[str]:
    """Return the names of those collections that have images, the largest first; before it the one named as `first`.

    Those that cannot be read are among them.
    """
    searched = [collection for collection in collections if collection.images or collection.fault]
    searched.sort(key=lambda collection: (collection.name != first, -collection.images, collection.name))
    return [collection.name for collection in searched]
