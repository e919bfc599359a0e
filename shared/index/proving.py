"""Proof for a search: its first hits are compared with the query, and those that show the same come first."""

from collections.abc import Mapping

from shared.errors import Invalid, ObjectNotFound
from shared.images import ImageRefused
from shared.index.proofs import Compared, Proofs
from shared.proof.findings import Proof
from shared.rpc.query import QueryClient, SearchOptions, SearchResponse


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
        collection: str,
        found: SearchResponse,
        options: SearchOptions,
        *,
        image: bytes | None = None,
        image_id: int = 0,
        box: str = "",
    ) -> Mapping[int, Proof]:
        """Compare the first hits with the query; returns what was found of each, by its id.

        Hits that show the same move to the front, those with the most inliers first; not where the search says another
        order, or groups.

        Raises:
            Invalid: There is no picture to compare with, or it cannot be read.
            ImageRefused: The bytes cannot be decoded.
            Unavailable: A server does not answer, or too many images wait.
        """
        if image is None and not image_id:
            raise Invalid("proof compares pictures: search for a file, an image by its id, or a picture by its address")
        first = [hit.image for hit in found.hits[: self._most]]
        if not first:
            return {}
        query = self._compared(collection, image_id, box) if image is None else self._proofs.of_file(image, box)
        proofs = dict(zip((image.id for image in first), self._proofs.compare(query, first), strict=True))
        if not options.sort and not options.group:
            _same_first(found, proofs)
        return proofs

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


def _same_first(found: SearchResponse, proofs: Mapping[int, Proof]) -> None:
    hits = list(found.hits)
    same = [hit for hit in hits if hit.image.id in proofs and proofs[hit.image.id].same]
    same.sort(key=lambda hit: -proofs[hit.image.id].inliers)
    ids = {hit.image.id for hit in same}
    del found.hits[:]
    found.hits.extend([*same, *(hit for hit in hits if hit.image.id not in ids)])
