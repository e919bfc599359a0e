"""Proofs that images show the same: their local features, kept beside the originals, and what comparisons find.

Local features can always be made again: backups leave them out, and they go with their original
(`shared.index.originals`). Processes that can be ended find and compare them: see `shared.proof.child`.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from shared.errors import Invalid, ObjectNotFound, TooNew, Unavailable
from shared.images import ImageRefused
from shared.images.decoder_pool import DecoderPool, DecodeSettings
from shared.images.regions import Region
from shared.index.derivatives import Derivatives
from shared.proof.features import LocalFeatures
from shared.proof.findings import Polygon, Proof
from shared.proof.messages import packed_list, unpacked_proofs
from shared.storage import layout
from shared.storage.documents import fetched_page
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import OriginalFiles

_log = logging.getLogger(__name__)

_CHILD = "shared.proof.child"
_SIDE = 1000  # pixels of the longer side that features are looked for at
_AT_A_TIME = 2  # images whose features are made
_MEDIA_TYPE = "application/octet-stream"


class StoredImage(Protocol):
    """An image of a collection."""

    @property
    def digest(self) -> str: ...  # noqa: D102 -- its original's
    @property
    def size(self) -> int: ...  # noqa: D102 -- of the original, in bytes
    @property
    def width(self) -> int: ...  # noqa: D102 -- of the upright original, in pixels
    @property
    def height(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Compared:
    """A picture to compare others with: its features, and where in its original the part begins that they are of."""

    features: bytes
    left: int = 0
    top: int = 0


class Proofs:
    """Compares pictures. Any number of threads may call it.

    Args:
        store: Where originals and their features lie.
        decoder: A pool of processes that run `shared.proof.child`.
    """

    def __init__(self, store: ObjectStore, decoder: DecoderPool) -> None:
        self._store, self._decoder = store, decoder
        self._derivatives, self._originals = Derivatives(store, decoder), OriginalFiles(store)

    @classmethod
    def from_settings(cls, settings: DecodeSettings, store: ObjectStore, *, threads: int | None = None) -> Self:
        """Return proofs with processes of their own, within the limits of the settings; see `DecoderPool`."""
        return cls(store, DecoderPool.from_settings(settings, threads=threads, module=_CHILD))

    def close(self) -> None:
        """End the processes."""
        self._decoder.close()

    def of_file(self, data: bytes, box: str = "") -> Compared:
        """Return what the bytes of an image, or a part of it, are compared by.

        Raises:
            ImageRefused: It cannot be decoded.
            Invalid: The box does not fit.
            Unavailable: Too many images wait to be decoded.
        """
        if not box:
            return Compared(self._decoder.features(data, side=_SIDE))
        info = self._decoder.identify(data)
        part = Region.parse(box).within(info.width, info.height)
        return Compared(self._decoder.features(data, side=_SIDE, part=part), part[0], part[1])

    def of_part(self, image: StoredImage, box: str) -> Compared:
        """Return what a part of an image of a collection is compared by, made of its original.

        Raises:
            ObjectNotFound: There is no such original.
            ImageRefused: It cannot be decoded.
            Invalid: The box does not fit.
            Unavailable: The store does not answer, or too many images wait to be decoded.
        """
        part = Region.parse(box).within(image.width, image.height)
        with fetched_page(self._store, image.digest, image.size) as (original, page):
            features = self._decoder.features(original, side=_SIDE, page=page, part=part)
        return Compared(features, part[0], part[1])

    def of_image(self, image: StoredImage) -> bytes:
        """Return the features of an image of a collection, made and stored now if there are none.

        Raises:
            ObjectNotFound: There is no such original.
            ImageRefused: It cannot be decoded.
            Unavailable: The store does not answer, or too many images wait to be decoded.
        """
        stored = self._stored(image.digest)
        if stored is not None:
            return stored
        derivative = self._derivatives.get(image.digest)
        if derivative is not None:
            # By its own word: of an image that was imported, the collection may not know the sides.
            size = derivative.info.width, derivative.info.height
            features = _at_size(self._decoder.features(derivative.data, side=_SIDE), *size)
        else:
            with fetched_page(self._store, image.digest, image.size) as (original, page):
                features = self._decoder.features(original, side=_SIDE, page=page)
        self._store.put(layout.features_key(image.digest), features, _MEDIA_TYPE)
        if not self._originals.exists(image.digest):  # deleted meanwhile, and its features with it
            self._store.delete([layout.features_key(image.digest)])
        return features

    def compare(self, first: Compared, others: Sequence[StoredImage]) -> list[Proof]:
        """Return what is found of a picture and each of other images of a collection, in their order.

        An image that cannot be looked at is not the same, and its proof says why.

        Raises:
            Unavailable: The store does not answer, or too many images wait to be decoded.
        """
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="proof") as pool:
            made = list(pool.map(self._made, others))
        ready = [features for features in made if isinstance(features, bytes)]
        found = iter(self._compared(first, ready))
        return [next(found) if isinstance(features, bytes) else features for features in made]

    def compare_features(self, first: bytes, others: Sequence[bytes]) -> list[Proof]:
        """Return what is found of the packed features of a picture and of each of others, in their order.

        Raises:
            Unavailable: Too many images wait to be decoded.
        """
        if not others:
            return []
        try:
            answer = self._decoder.comparisons(packed_list([first, *others]))
            return unpacked_proofs(answer, len(others))
        except (ImageRefused, Invalid) as error:
            raise Unavailable(f"the pictures could not be compared: {error}") from error

    def _compared(self, first: Compared, others: Sequence[bytes]) -> list[Proof]:
        proofs = self.compare_features(first.features, others)
        return [replace(proof, in_a=_moved(proof.in_a, first.left, first.top)) for proof in proofs]

    def _made(self, image: StoredImage) -> bytes | Proof:
        try:
            return self.of_image(image)
        except (ImageRefused, ObjectNotFound) as error:
            _log.warning("the local features of %s cannot be found: %s", image.digest, error)
            return Proof(same=False, inliers=0, matches=0, reason="the picture cannot be read")

    def _stored(self, digest: str) -> bytes | None:
        """Return features from the store; None if there are none that can be read."""
        try:
            data = self._store.get(layout.features_key(digest))
            LocalFeatures.unpack(data, place=digest)
        except ObjectNotFound:
            return None
        except (TooNew, Invalid) as error:
            _log.info("%s: they are made again", error)
            return None
        return data


def _at_size(packed: bytes, width: int, height: int) -> bytes:
    """Return features as those of an original of another size."""
    features = LocalFeatures.unpack(packed)
    scale = np.array([width / features.width, height / features.height], np.float32)
    return replace(features, width=width, height=height, points=features.points * scale).pack()


def _moved(polygon: Polygon, left: int, top: int) -> Polygon:
    return tuple((round(x + left, 1), round(y + top, 1)) for x, y in polygon)
