"""The vector that a search looks for: an image embedded by the model, a stored embedding, or a vector that is given."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.query.replica.mapped_segment import MappedSegment, Vectors
from services.query.replica.replica import Replica
from services.query.search.relevance_feedback import moved
from services.query.search.search_query import SearchQuery
from services.query.search.stage_timer import StageTimer
from shared.clients import ConnectModel
from shared.errors import Invalid, ObjectNotFound
from shared.images import Decoder, ImageRefused
from shared.images.regions import Region
from shared.index.derivatives import Derivatives
from shared.rpc.query.options import MAX_IMAGES
from shared.rpc.serving import ServingClient
from shared.storage.catalog import EmbeddingSet
from shared.storage.documents import fetched_page
from shared.storage.object_store import ObjectStore

Pixels = npt.NDArray[np.uint8]


class Searched(Protocol):
    """Images of one model version: a replica, or several."""

    @property
    def embedding_set(self) -> EmbeddingSet:
        """The embedding set, or one of them: all have the same model version."""

    def find(self, image_id: int) -> tuple[MappedSegment, int]:
        """Return the segment and row of an image; `NotFound` if there is none."""


class QueryVectors:
    """Makes query vectors; the client of each model is kept."""

    def __init__(self, connect_model: ConnectModel, decoder: Decoder, store: ObjectStore) -> None:
        self._connect_model = connect_model
        self._decoder = decoder
        self._store = store
        self._models: dict[tuple[str, int], ServingClient] = {}

    def of_search(
        self, search_query: SearchQuery, replica: Searched, timer: StageTimer, time_left_s: float | None
    ) -> Vectors:
        """Return the vector of a search, moved by its examples: float32 [dim].

        Raises:
            NotFound: The collection has no such image.
            ImageRefused: The query image is refused.
            Invalid: The vector does not fit, or nothing is given to search for.
            Unavailable: The model server does not answer, or too many images wait to be decoded.
        """
        query = self._query(search_query, replica, timer, time_left_s)
        like, unlike = stored_vectors(replica, search_query.like), stored_vectors(replica, search_query.unlike)
        if query is None and not len(like) and not len(unlike):
            raise Invalid("nothing to search for: give an image, an id, a vector or examples")
        return moved(query, like, unlike, weight=search_query.weight)

    def of_batch(self, options: SearchQuery, queries: Sequence[int | Vectors], replica: Replica) -> Vectors:
        """Return the vectors of image ids and vectors, moved by the examples of `options`: float32 [q, dim].

        Raises:
            NotFound: The collection has no such image.
            Invalid: A vector does not fit.
        """
        like, unlike = replica.embeddings(options.like), replica.embeddings(options.unlike)
        dim = replica.embedding_set.dim
        vectors = np.empty((len(queries), dim), dtype=np.float32)
        stored = [place for place, query in enumerate(queries) if isinstance(query, int)]
        vectors[stored] = replica.embeddings([query for query in queries if isinstance(query, int)])
        for place, query in enumerate(queries):
            if not isinstance(query, int):
                vectors[place] = _checked(query, dim, f"the vector of query {place}")
            if len(like) or len(unlike):
                vectors[place] = moved(vectors[place], like, unlike, weight=options.weight)
        return vectors

    def _query(
        self, search_query: SearchQuery, replica: Searched, timer: StageTimer, time_left_s: float | None
    ) -> Vectors | None:
        """Return the vector of image, images, id or vector; None if the search has examples only."""
        box = search_query.box
        if search_query.images:
            return self._of_images(search_query, replica, timer, time_left_s)
        if box is not None and search_query.image is None and search_query.image_id is None:
            raise Invalid("a box is a part of a picture: give an image or an id beside it")
        if search_query.image_id is not None and box is None:
            stored: Vectors = stored_vectors(replica, [search_query.image_id])[0]
            return stored
        if search_query.vector is not None:
            return _checked(search_query.vector, replica.embedding_set.dim, "the vector")
        if search_query.image is None and search_query.image_id is None:
            return None
        model = self._model(replica.embedding_set.model, replica.embedding_set.version)
        size = model.signature().input_size
        with timer.stage("decode"):
            if search_query.image is not None:
                pixels = self._part(search_query.image, box, size)
            elif box is not None:
                pixels = self._part_of_stored(search_query.image_id or 0, box, size, replica)
        with timer.stage("embed"):
            embedded: Vectors = model.embed(pixels[np.newaxis], timeout_s=time_left_s)[0]
            return embedded

    def _of_images(
        self, search_query: SearchQuery, replica: Searched, timer: StageTimer, time_left_s: float | None
    ) -> Vectors:
        """Return the vector of several image files, combined as examples are: float32 [dim]."""
        images = search_query.images
        if len(images) > MAX_IMAGES:
            raise Invalid(f"number of images is {len(images)}, expected 1 to {MAX_IMAGES}")
        if search_query.image_id is not None or search_query.vector is not None or search_query.image is not None:
            raise Invalid("several images are given beside another query: one of the two is taken")
        if search_query.box is not None:
            raise Invalid("a box is a part of one picture, and several are given: leave one, or the box out")
        model = self._model(replica.embedding_set.model, replica.embedding_set.version)
        size = model.signature().input_size
        with timer.stage("decode"):
            pixels = np.stack([self._part(image, None, size) for image in images])
        with timer.stage("embed"):
            embedded: Vectors = model.embed(pixels, timeout_s=time_left_s)
        return moved(None, embedded, embedded[:0])

    def _part(self, image: bytes, box: Region | None, size: int) -> Pixels:
        """Return the pixels of an image or a part of it, uint8 [size, size, 3]."""
        part = None
        if box is not None:
            info = self._decoder.identify(image)
            part = box.within(info.width, info.height)
        return self._decoder.decode(image, size=size, part=part)[0]

    def _part_of_stored(self, image_id: int, box: Region, size: int, replica: Searched) -> Pixels:
        """Return the pixels of a part of an image of the collection, from its original where that can be decoded."""
        segment, row = replica.find(image_id)
        entry = segment.entry(row)
        part = box.within(entry.width, entry.height)
        try:
            with fetched_page(self._store, entry.digest, entry.size) as (original, page):
                return self._decoder.decode(original, size=size, page=page, part=part)[0]
        except (ImageRefused, ObjectNotFound):  # too large for this service, or kept elsewhere
            derivative = Derivatives(self._store, self._decoder).get(entry.digest)
            if derivative is None:
                raise
        shown = self._decoder.identify(derivative.data)
        scale = shown.width / entry.width, shown.height / entry.height
        left, top, right, bottom = (round(side * scale[place % 2]) for place, side in enumerate(part))
        coarse = left, top, max(right, left + 1), max(bottom, top + 1)
        return self._decoder.decode(derivative.data, size=size, part=coarse)[0]

    def _model(self, name: str, version: int) -> ServingClient:
        key = (name, version)
        if key not in self._models:
            self._models[key] = self._connect_model(name, version)
        return self._models[key]


def stored_vectors(replica: Searched, image_ids: Sequence[int]) -> Vectors:
    """Return the embeddings of images of the collection, float32 [n, dim].

    Raises:
        NotFound: The collection lacks one of the images.
    """
    vectors = np.empty((len(image_ids), replica.embedding_set.dim), dtype=np.float32)
    for place, image_id in enumerate(image_ids):
        segment, row = replica.find(image_id)
        vectors[place] = segment.vectors[row]
    return vectors


def _checked(vector: Vectors, dim: int, name: str) -> Vectors:
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise Invalid(f"{name} has shape {vector.shape}, expected {dim} finite numbers")
    return vector
