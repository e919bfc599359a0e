"""Copies of queries: images of the collection that are the same picture, or nearly, and so flatter the scores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from services.evaluator.queries import Queries
from services.evaluator.run_results import RunResults, slices
from shared.errors import NotFound, ObjectNotFound
from shared.evaluation.classes import class_text, classes_of
from shared.evaluation.report import QueryCopy
from shared.evaluation.report_json import CopyAnswer
from shared.images import Decoder, ImageRefused
from shared.images.likeness import NEAR_COPY, SIDE, Floats, descriptor, likeness
from shared.index.derivatives import Derivatives, is_needed
from shared.rpc.query import Image, QueryClient
from shared.storage import evaluation_layout, layout
from shared.storage.documents import fetched_page
from shared.storage.object_store import ObjectStore

_NEAREST = 3  # hits that are compared with their query
_PART = 32  # queries of one step: the pixels of the queries and their hits take some 32 MB
_THREADS = 4


class CopiesFoundJson(TypedDict):
    """`CopiesFound` as it is stored."""

    copies: list[CopyAnswer]
    unchecked: int


@dataclass(frozen=True)
class CopiesFound:
    """The copies of some queries, and how many of the queries could not be compared."""

    copies: tuple[QueryCopy, ...]
    unchecked: int

    def to_json(self) -> CopiesFoundJson:
        """Return the copies as JSON values."""
        return {"copies": [copy.to_json() for copy in self.copies], "unchecked": self.unchecked}

    @classmethod
    def from_json(cls, value: CopiesFoundJson) -> "CopiesFound":
        """Return the copies that `to_json` gave."""
        return cls(tuple(QueryCopy.from_json(copy) for copy in value["copies"]), value["unchecked"])

    @classmethod
    def joined(cls, parts: Sequence["CopiesFound"]) -> "CopiesFound":
        """Return the copies of several parts of the queries as one."""
        return cls(tuple(copy for part in parts for copy in part.copies), sum(part.unchecked for part in parts))


def parts_of(queries: int) -> Sequence[slice]:
    """Return the parts in which so many queries are compared, one step each."""
    return list(slices(queries, _PART))


def queries_without_copies(queries: Queries, copies: Iterable[QueryCopy]) -> npt.NDArray[np.bool_]:
    """Return which queries have no copy, bool [q]."""
    copied = {copy.digest for copy in copies}
    return np.array([digest not in copied for digest in queries.digests], dtype=np.bool_)


class CopyFinder:
    """Compares the pixels of queries with those of their nearest images."""

    def __init__(self, store: ObjectStore, query: QueryClient, decoder: Decoder) -> None:
        self._store, self._query, self._decoder = store, query, decoder
        self._derivatives = Derivatives(store, decoder)

    def find(self, collection: str, queries: Queries, nearest: RunResults, part: slice, *, sample: bool) -> CopiesFound:
        """Return the copies of some queries.

        Whatever model the nearest images were found with, the pixels decide (`shared.images.likeness`).

        Args:
            collection: Name of the collection.
            queries: All queries.
            nearest: What the exact scan by cosine found for each among all images, the query itself left out.
            part: Which queries.
            sample: Whether they are images of the collection, so that being held by it says nothing.
        """
        places = range(len(queries))[part]
        hits = {
            place: [image_id for image_id in nearest.ids[place, :_NEAREST].tolist() if image_id >= 0]
            for place in places
        }
        held = [int(queries.ids[place]) for place in places if queries.in_collection[place]]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="copies") as pool:
            ids = sorted({*held, *(image_id for hit_ids in hits.values() for image_id in hit_ids)})
            images = dict(zip(ids, pool.map(lambda image_id: self._image(collection, image_id), ids), strict=True))
            known = {layout.original_key(image.digest): image for image in images.values() if image is not None}
            keys = sorted({*(_original_key(queries, place) for place in places), *known})
            pixels = dict(zip(keys, pool.map(lambda key: self._pixels(key, known.get(key)), keys), strict=True))
        copies: list[QueryCopy] = []
        for place in places:
            own = None if sample or not queries.in_collection[place] else images[int(queries.ids[place])]
            if own is not None:
                copies.append(_identical_copy(queries, place, own))
            neighbours = [images[image_id] for image_id in hits[place]]
            copies += _near_copies(queries, place, neighbours, nearest.distances[place].tolist(), pixels)
        unchecked = sum(pixels[_original_key(queries, place)] is None for place in places)
        return CopiesFound(tuple(copies), unchecked)

    def _image(self, collection: str, image_id: int) -> Image | None:
        try:
            return self._query.image(collection, image_id)
        except NotFound:  # deleted a moment ago
            return None

    def _pixels(self, key: str, image: Image | None) -> Floats | None:
        """Return the pixels of an original as they are compared; None if it is gone, or no longer taken.

        `image` is what the collection knows of it. Large originals, and pages of documents, are not fetched where they
        have a derivative.
        """
        try:
            if not key.startswith(layout.ORIGINALS):
                return descriptor(self._decoder.grey(self._store.get(key), side=SIDE))
            if image is None:  # deleted a moment ago
                return None
            if is_needed(media_type=image.media_type, width=image.width, height=image.height):
                derivative = self._derivatives.get(image.digest)
                if derivative is not None:
                    return descriptor(self._decoder.grey(derivative.data, side=SIDE))
            with fetched_page(self._store, image.digest, image.size) as (data, page):
                return descriptor(self._decoder.grey(data, side=SIDE, page=page))
        except (ObjectNotFound, ImageRefused):
            return None


def _near_copies(
    queries: Queries,
    place: int,
    neighbours: Sequence[Image | None],
    distances: Sequence[float],
    pixels: Mapping[str, Floats | None],
) -> Iterator[QueryCopy]:
    """Yield those of a query's nearest images that are near copies; `pixels` has those of originals by their keys."""
    query = pixels[_original_key(queries, place)]
    if query is None:
        return
    for image, distance in zip(neighbours, distances, strict=False):
        image_pixels = None if image is None else pixels[layout.original_key(image.digest)]
        if image is None or image_pixels is None:
            continue
        similarity, mirrored = likeness(query, image_pixels)
        if similarity >= NEAR_COPY:
            yield QueryCopy(
                name=queries.names[place],
                digest=queries.digests[place],
                label=class_text(queries.labels[place]),
                image_id=image.id,
                image_label=class_text(classes_of(image, queries.field)),
                kind="near",
                similarity=similarity,
                mirrored=mirrored,
                distance=distance,
            )


def _identical_copy(queries: Queries, place: int, image: Image) -> QueryCopy:
    """Return a query's copy that is the same file."""
    return QueryCopy(
        name=queries.names[place],
        digest=queries.digests[place],
        label=class_text(queries.labels[place]),
        image_id=image.id,
        image_label=class_text(classes_of(image, queries.field)),
        kind="identical",
        similarity=1.0,
        mirrored=False,
        distance=0.0,
    )


def _original_key(queries: Queries, place: int) -> str:
    if queries.in_collection[place]:
        return layout.original_key(queries.digests[place])
    return evaluation_layout.query_key(queries.stored[place])
