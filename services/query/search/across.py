"""A search over several collections: the query is embedded once, and the hits of all are ranked together.

Embeddings compare only within one model version. So collections of another model are left out, and named, like those
that cannot be searched at the moment. The image that is searched for, and each example, may lie in any of the others:
its embedding is taken from there.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.query.announced import Announced
from services.query.replica.mapped_segment import MappedSegment
from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.candidates import ReplicaSuperseded
from services.query.search.ranking import Hit
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.searcher import Searcher
from services.query.search.stage_timer import StageTimer
from shared.errors import Invalid, NotFound, Unavailable
from shared.rpc.query.query_pb2 import SkippedCollection
from shared.storage.catalog import EmbeddingSet

MAX_COLLECTIONS: Final = 1000
_EQUAL: Final = 11  # digits behind the point of distances that are those of equal images

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AcrossResult:
    """What is found in several collections.

    Attributes:
        hits: The best `k` of all, the best first, each with the name of its collection.
        results: How each collection was searched, with its own hits, and the replica.
        skipped: Why the other collections were not searched.
        examples: The collection that has each example, the first of them, by its id.
        timings_ms: Milliseconds by stage, of all together.
    """

    embedding_set: EmbeddingSet
    hits: Sequence[tuple[str, Hit]]
    results: Mapping[str, tuple[SearchResult, Replica]]
    skipped: Sequence[SkippedCollection]
    examples: Mapping[int, str]
    timings_ms: Mapping[str, float]


@dataclass
class _Together:
    """Replicas of one model version, which know the images of all of them."""

    embedding_set: EmbeddingSet
    replicas: list[Replica] = field(default_factory=list)

    def find(self, image_id: int) -> tuple[MappedSegment, int]:
        """Return where an image is.

        Raises:
            NotFound: None of the collections has it.
        """
        for replica in self.replicas:
            try:
                return replica.find(image_id)
            except NotFound:
                continue
        raise _nowhere(image_id, self.replicas)

    def place(self, image_id: int) -> str:
        """Return the name of the first collection that has an image; empty if it is gone by now."""
        holder = _holder(image_id, self.replicas)
        return "" if holder is None else holder.embedding_set.collection


class AcrossSearcher:
    """Searches several collections at once."""

    def __init__(self, searcher: Searcher, replica_sync: ReplicaSync) -> None:
        self._searcher, self._replica_sync = searcher, replica_sync

    def search(
        self,
        collections: Sequence[str],
        query_of: Callable[[str], SearchQuery],
        *,
        announced: Announced | None = None,
        time_left_s: float | None = None,
    ) -> AcrossResult:
        """Return the images of the collections most similar to a query, which `query_of` returns for each of them.

        The model is the first, in the order of the collections, whose collections have the image which is searched for
        and all examples.

        Raises:
            NotFound: None of the collections has one of these images, or there is no such collection at all.
            ImageRefused: The query image is refused.
            Invalid: A parameter does not fit, or the images are known to different models.
            Unavailable: The model server or the decoders do not answer, or no collection can be searched.
        """
        if not 1 <= len(collections) <= MAX_COLLECTIONS:
            raise Invalid(f"number of collections is {len(collections)}, expected 1 to {MAX_COLLECTIONS}")
        timer, skipped = StageTimer(), list[SkippedCollection]()
        announced = announced or Announced(self._replica_sync)
        with timer.stage("total"):
            announced.read()
            replicas, queries = self._prepared(collections, query_of, skipped)
            if not replicas:
                raise _none_left(skipped)
            query = next(iter(queries.values()))
            together = _of_one_model(list(replicas.values()), query)
            vector = self._searcher.vector(query, together, timer, time_left_s)
            results = {}
            for name, replica in replicas.items():
                if replica not in together.replicas:
                    skipped.append(_of_other_model(replica, together.embedding_set))
                    continue
                try:
                    result = self._searcher.search_by_vector(vector, queries[name], replica, announced, timer)
                except (ReplicaSuperseded, NotFound):
                    skipped.append(_failed(name, "it has just changed to another model, or was renamed: search again"))
                except Unavailable as error:
                    skipped.append(_failed(name, str(error)))
                else:
                    results[name] = (result, replica)
            if not results:
                raise _none_left(skipped)
        place = {name: at for at, name in enumerate(results)}
        hits = [(name, hit) for name, (result, _) in results.items() for hit in result.hits]
        own = None if query.box else query.image_id
        hits.sort(key=lambda it: (round(it[1].distance, _EQUAL), it[1].image_id != own, it[1].image_id, place[it[0]]))
        places = {image_id: together.place(image_id) for image_id in dict.fromkeys([*query.like, *query.unlike])}
        return AcrossResult(together.embedding_set, hits[: query.k], results, skipped, places, timer.timings_ms)

    def _prepared(
        self, collections: Sequence[str], query_of: Callable[[str], SearchQuery], skipped: list[SkippedCollection]
    ) -> tuple[dict[str, Replica], dict[str, SearchQuery]]:
        """Return replica and query of each collection that can be searched, in their order."""
        replicas, queries = {}, {}
        for name in dict.fromkeys(collections):
            try:
                replica, query = self._replica_sync.replica(name, read=False), query_of(name)
            except NotFound as error:
                skipped.append(SkippedCollection(collection=name, reason=SkippedCollection.UNKNOWN, detail=str(error)))
            except Unavailable as error:
                skipped.append(_failed(name, str(error)))
            else:
                query.check()
                replicas[name], queries[name] = replica, query
        return replicas, queries


def _of_one_model(replicas: Sequence[Replica], query: SearchQuery) -> _Together:
    """Return the replicas of the first model version that has all images which the query names.

    Raises:
        NotFound: No replica has one of the images.
        Invalid: No model has all of them.
    """
    named = [image for image in (query.image_id, *query.like, *query.unlike) if image is not None]
    models: dict[tuple[str, int], list[Replica]] = {}
    for replica in replicas:
        models.setdefault(_model_of(replica.embedding_set), []).append(replica)
    for same in models.values():
        if all(_holder(image, same) is not None for image in named):
            return _Together(same[0].embedding_set, same)
    holders = {image: _holder(image, replicas) for image in named}
    for image, holder in holders.items():
        if holder is None:
            raise _nowhere(image, replicas)
    places = [f"{image}: {_described(holder.embedding_set)}" for image, holder in holders.items() if holder]
    raise Invalid(
        "the images searched for are of collections with different models, whose embeddings do not compare; leave "
        f"those of one: {'; '.join(places)}"
    )


def _holder(image_id: int, replicas: Sequence[Replica]) -> Replica | None:
    """Return the first of some replicas that has an image."""
    return next((replica for replica in replicas if replica.view.row(image_id) is not None), None)


def _nowhere(image_id: int, replicas: Sequence[Replica]) -> NotFound:
    names = ", ".join(repr(replica.embedding_set.collection) for replica in replicas)
    return NotFound(f"there is no image {image_id} in any of the collections that are searched: {names}")


def _model_of(embedding_set: EmbeddingSet) -> tuple[str, int]:
    return embedding_set.model, embedding_set.version


def _described(embedding_set: EmbeddingSet) -> str:
    return f"{embedding_set.collection!r} ({embedding_set.model}:{embedding_set.version})"


def _of_other_model(replica: Replica, searched: EmbeddingSet) -> SkippedCollection:
    own = replica.embedding_set
    detail = (
        f"its model is {own.model}, version {own.version}, and the search is by {searched.model}, version "
        f"{searched.version}: their embeddings do not compare"
    )
    return SkippedCollection(collection=own.collection, reason=SkippedCollection.OTHER_MODEL, detail=detail)


def _failed(collection: str, detail: str) -> SkippedCollection:
    _log.warning("%s is left out of a search over several collections: %s", collection, detail)
    return SkippedCollection(collection=collection, reason=SkippedCollection.FAILED, detail=detail)


def _none_left(skipped: Sequence[SkippedCollection]) -> NotFound | Unavailable:
    said = "; ".join(f"{collection.collection}: {collection.detail}" for collection in skipped)
    if all(collection.reason == SkippedCollection.UNKNOWN for collection in skipped):
        return NotFound(f"none of the collections is there: {said}")
    return Unavailable(f"none of the collections can be searched: {said}")
