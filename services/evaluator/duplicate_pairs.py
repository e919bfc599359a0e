"""Compares the pictures of candidate pairs: by their local features, or by their pixels where these are too few."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from shared.duplicates.pairs import Pair, Way
from shared.duplicates.plain_pictures import compared_by_pixels
from shared.duplicates.ways import ways_of
from shared.errors import NotFound, ObjectNotFound
from shared.images import ImageRefused
from shared.images.decoder_pool import DecoderPool
from shared.index.proofs import Proofs
from shared.proof.features import LocalFeatures
from shared.proof.findings import Proof
from shared.rpc.query import Image, QueryClient
from shared.storage.documents import fetched_page
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_THREADS: Final = 4
_ALIKE: Final = 1.0  # shades in the mean: pictures with the same pixels have fewer, at any size
_MOST_PIXELS: Final = 50_000_000  # of pictures whose pixels are compared one by one


@dataclass(frozen=True)
class Candidate:
    """A pair to compare, and the similarity of its embeddings, by which it was found; 0 if another image led to it."""

    a: int
    b: int
    score: float = 0.0


@dataclass
class ComparedPairs:
    """Pairs that show the same, and the images whose picture could not be read."""

    pairs: list[Pair] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Looked:
    """An image and the local features of its picture, packed and not."""

    image: Image
    packed: bytes
    features: LocalFeatures

    @property
    def size(self) -> tuple[int, int]:
        return self.features.width, self.features.height


class PairComparer:
    """Compares pairs of images of collections; `decoder` is the pool that reads pixels, `proofs` has another."""

    def __init__(self, store: ObjectStore, query: QueryClient, proofs: Proofs, decoder: DecoderPool) -> None:
        self._store, self._query, self._proofs, self._decoder = store, query, proofs, decoder

    def compare(self, collection: str, candidates: Sequence[Candidate]) -> ComparedPairs:
        """Return those of some pairs that show the same; those of images that are gone by now are left out.

        All that is compared is held in memory meanwhile: some 120 KB an image.

        Raises:
            Unavailable: A server does not answer.
        """
        found = ComparedPairs()
        ids = sorted({image_id for candidate in candidates for image_id in (candidate.a, candidate.b)})
        by_first = [list(some) for _, some in itertools.groupby(candidates, key=lambda candidate: candidate.a)]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="duplicates") as pool:
            looked = dict(
                zip(
                    ids, pool.map(lambda image_id: self._look(collection, image_id, found.unreadable), ids), strict=True
                )
            )
            there = {image_id: looked_at for image_id, looked_at in looked.items() if looked_at is not None}
            for pairs in pool.map(lambda some: list(self._pairs(there, some)), by_first):
                found.pairs += pairs
        return found

    def _look(self, collection: str, image_id: int, unreadable: set[int]) -> _Looked | None:
        try:
            image = self._query.image(collection, image_id)
        except NotFound:  # deleted meanwhile
            return None
        try:
            packed = self._proofs.of_image(image)
        except (ImageRefused, ObjectNotFound) as error:
            _log.warning("the picture of the image %d cannot be compared: %s", image_id, error)
            unreadable.add(image_id)
            return None
        return _Looked(image, packed, LocalFeatures.unpack(packed, place=image.digest))

    def _pairs(self, looked: Mapping[int, _Looked], candidates: Iterable[Candidate]) -> Iterator[Pair]:
        """Yield the pairs that show the same, of candidates that have their first image in common."""
        some = [candidate for candidate in candidates if candidate.a in looked and candidate.b in looked]
        if not some:
            return
        first = looked[some[0].a]
        others = [looked[candidate.b] for candidate in some]
        proofs = self._proofs.compare_features(first.packed, [other.packed for other in others])
        for candidate, other, proof in zip(some, others, proofs, strict=True):
            shown = proof if proof.same else compared_by_pixels(first.features, other.features)
            if shown is not None:
                ways = self._ways(shown, first, other)
                yield Pair(candidate.a, candidate.b, shown.agreement, shown.inliers, round(candidate.score, 4), ways)

    def _ways(self, proof: Proof, one: _Looked, other: _Looked) -> tuple[Way, ...]:
        ways = ways_of(proof, one.size, other.size, one.features.small, other.features.small)
        return ("identical",) if ways == ("re-encoded",) and self._has_same_pixels(one, other) else ways

    def _has_same_pixels(self, one: _Looked, other: _Looked) -> bool:
        """Return whether all pixels of two pictures of one size are the same."""
        small_a, small_b = one.features.small, other.features.small
        if small_a.shape != small_b.shape or one.size[0] * one.size[1] > _MOST_PIXELS:
            return False
        if np.abs(small_a.astype(np.float32) - small_b.astype(np.float32)).mean() > _ALIKE:
            return False
        try:
            with (
                fetched_page(self._store, one.image.digest, one.image.size) as (data_a, page_a),
                fetched_page(self._store, other.image.digest, other.image.size) as (data_b, page_b),
            ):
                return all(
                    np.array_equal(
                        self._decoder.decode(data_a, size=part[2] - part[0], page=page_a, part=part)[0],
                        self._decoder.decode(data_b, size=part[2] - part[0], page=page_b, part=part)[0],
                    )
                    for part in _squares(*one.size)
                )
        except (ImageRefused, ObjectNotFound):
            return False


def _squares(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield squares that cover a picture, each as wide as its shorter side: left, top, right, bottom."""
    side, longer = min(width, height), max(width, height)
    for start in (min(step * side, longer - side) for step in range(-(-longer // side))):
        left, top = (start, 0) if width >= height else (0, start)
        yield left, top, left + side, top + side
