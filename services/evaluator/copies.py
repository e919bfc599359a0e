"""Copies between queries and collection: what the collection holds of a query, or nearly, flatters the figures."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from services.evaluator.queries import Queries
from services.evaluator.run_results import Answers, slices
from shared.errors import NotFound, ObjectNotFound
from shared.images import ImageRefused, Limits, grey
from shared.images.likeness import NEAR_COPY, SIDE, Floats, likeness, looks
from shared.rpc.query import Image, QueryClient
from shared.storage import layout
from shared.storage.object_store import ObjectStore

_NEAREST = 3  # hits that are compared with their query
_TOGETHER = 32  # queries of one step: what they and their hits look like takes some 32 MB
_THREADS = 4


def parts_of(queries: int) -> Sequence[slice]:
    """Return the parts in which so many queries are compared, one step each."""
    return list(slices(queries, _TOGETHER))


def without_copies(queries: Queries, copies: Iterable[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """Return which queries have no copy, bool [q]."""
    having = {one["digest"] for one in copies}
    return np.array([digest not in having for digest in queries.digests], dtype=np.bool_)


class CopyFinder:
    """Compares pictures of queries with those of their nearest images. Its servers are passed in."""

    def __init__(self, *, store: ObjectStore, query: QueryClient, limits: Limits) -> None:
        self._store, self._query, self._limits = store, query, limits

    def find(self, collection: str, queries: Queries, nearest: Answers, some: slice, *, sample: bool) -> dict[str, Any]:
        """Return the copies of some queries as JSON values, and how many queries could not be compared.

        Whatever model the nearest images were found with, the pixels decide (`shared.images.likeness`).

        Args:
            collection: Name of the collection.
            queries: All queries.
            nearest: What the exact scan by cosine found for each among all images, the query itself left out.
            some: Which queries.
            sample: Whether they are images of the collection, so that being held by it tells nothing.
        """
        places = range(len(queries))[some]
        hits = {place: [one for one in nearest.ids[place, :_NEAREST].tolist() if one >= 0] for place in places}
        held = [int(queries.ids[place]) for place in places if queries.in_collection[place] and not sample]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="copies") as pool:
            ids = sorted({*held, *(image for its in hits.values() for image in its)})
            images = dict(zip(ids, pool.map(lambda image: self._image(collection, image), ids), strict=True))
            keys = [_key(queries, place) for place in places]
            keys += [layout.original_key(image.digest) for image in images.values() if image is not None]
            seen = dict(zip(keys, pool.map(self._looks, keys), strict=True))
        copies: list[dict[str, Any]] = []
        for place in places:
            own = None if sample or not queries.in_collection[place] else images[int(queries.ids[place])]
            if own is not None:
                copies.append(_copy(queries, place, own, kind="identical", distance=0.0))
            query = seen[_key(queries, place)]
            if query is None:
                continue
            for image, distance in zip(hits[place], nearest.distances[place].tolist(), strict=False):
                other = images[image]
                pixels = None if other is None else seen[layout.original_key(other.digest)]
                if other is None or pixels is None:
                    continue
                similarity, mirrored = likeness(query, pixels)
                if similarity >= NEAR_COPY:
                    more = {"distance": distance, "similarity": similarity, "mirrored": mirrored}
                    copies.append(_copy(queries, place, other, kind="near", **more))
        return {"copies": copies, "unchecked": sum(seen[_key(queries, place)] is None for place in places)}

    def _image(self, collection: str, image: int) -> Image | None:
        try:
            return self._query.image(collection, image)
        except NotFound:  # deleted a moment ago
            return None

    def _looks(self, key: str) -> Floats | None:
        """Return what an original looks like; None if it is gone, or no longer taken."""
        try:
            return looks(grey(self._store.get(key), side=SIDE, limits=self._limits))
        except (ObjectNotFound, ImageRefused):
            return None


def _key(queries: Queries, place: int) -> str:
    digest = queries.digests[place]
    return layout.original_key(digest) if queries.in_collection[place] else layout.query_key(digest)


def _copy(
    queries: Queries,
    place: int,
    image: Image,
    *,
    kind: str,
    distance: float,
    similarity: float = 1.0,
    mirrored: bool = False,
) -> dict[str, Any]:
    return {
        "name": queries.names[place],
        "digest": queries.digests[place],
        "label": queries.labels[place],
        "image": image.id,
        "image_label": image.label,
        "kind": kind,
        "similarity": similarity,
        "mirrored": mirrored,
        "distance": distance,
    }
