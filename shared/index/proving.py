"""Proof for a search: its first hits are compared with the query, and those that show the same come first."""

from collections.abc import Mapping, MutableSequence, Sequence
from typing import Any

from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.images import ImageRefused
from shared.index.proofs import Compared, Proofs
from shared.proof.findings import Proof
from shared.rpc.query import Image, QueryClient, SearchAcrossResponse, SearchOptions, SearchResponse


class Prover:
    """Compares the images of collections with queries and with each other.

    Args:
        proofs: What compares.
        query: A client of the query service, which knows the images.
        most: Hits of a search that are compared, at most.
    """

    def __init__(self, proofs: Proofs, query: QueryClient, *, most: int) -> None:
        self._proofs, self._query, self._most = proofs, query, most

    def prove(
        self,
        found: SearchResponse | SearchAcrossResponse,
        options: SearchOptions,
        *,
        collection: str = "",
        image: bytes | None = None,
        image_id: int = 0,
        box: str = "",
    ) -> Mapping[int, Proof]:
        """Compare the first hits with the query; returns what was found of each, by its id.

        Hits that show the same move to the front, those with the most inliers first; not where the search says another
        order, or groups. An image that is a hit in several collections has one id, which follows from its content, and
        one proof. `collection` is that of a search of one.

        Raises:
            Invalid: There is no picture to compare with, or it cannot be read.
            ImageRefused: The bytes cannot be decoded.
            Unavailable: A server does not answer, or too many images wait.
        """
        if isinstance(found, SearchAcrossResponse):
            images = [placed.hit.image for placed in found.hits]
            searched = [answer.collection for answer in found.answers]
        else:
            images, searched = [hit.image for hit in found.hits], [collection]
        proofs = self._proved(searched, images, image=image, image_id=image_id, box=box)
        if not options.sort and not options.group:
            _same_first(found.hits, images, proofs)
        return proofs

    def _proved(
        self, collections: Sequence[str], images: Sequence[Image], *, image: bytes | None, image_id: int, box: str
    ) -> Mapping[int, Proof]:
        """Return what is found of the first of some images, by their ids."""
        if image is None and not image_id:
            raise Invalid("proof compares pictures: search for a file, an image by its id, or a picture by its address")
        first = list({entry.id: entry for entry in images[: self._most]}.values())
        if not first:
            return {}
        query = self._of_any(collections, image_id, box) if image is None else self._proofs.of_file(image, box)
        return dict(zip((entry.id for entry in first), self._proofs.compare(query, first), strict=True))

    def _of_any(self, collections: Sequence[str], image_id: int, box: str) -> Compared:
        """Return the query of the first of some collections that has it."""
        for collection in collections[:-1]:
            try:
                return self._compared(collection, image_id, box)
            except NotFound:
                continue
        return self._compared(collections[-1], image_id, box)

    def compare(self, collection: str, first: int, second: int) -> Proof:
        """Return what is found of two images of a collection.

        Raises:
            NotFound: The collection lacks one of them.
            Invalid: The picture of the first cannot be read.
            Unavailable: A server does not answer, or too many images wait.
        """
        other = self._query.image(collection, second)
        return self._proofs.compare(self._compared(collection, first), [other])[0]

    def _compared(self, collection: str, image_id: int, box: str = "") -> Compared:
        entry = self._query.image(collection, image_id)
        try:
            return self._proofs.of_part(entry, box) if box else Compared(self._proofs.of_image(entry))
        except (ImageRefused, ObjectNotFound) as error:
            raise Invalid(f"the picture of the image {image_id} cannot be read: {error}") from error


def _same_first(hits: MutableSequence[Any], images: Sequence[Image], proofs: Mapping[int, Proof]) -> None:
    """Move the hits that show the same to the front; `images` are those of the hits."""
    inliers = {image_id: proof.inliers for image_id, proof in proofs.items() if proof.same}
    order = sorted(range(len(hits)), key=lambda place: -inliers.get(images[place].id, -1))
    arranged = [hits[place] for place in order]
    del hits[:]
    hits.extend(arranged)
