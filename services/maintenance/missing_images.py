"""Which images of the embedding set in use are missing from the one that is being filled."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from services.maintenance.embedding_batches import BATCH_SIZE
from shared.clients import Clients
from shared.errors import Invalid, ObjectNotFound
from shared.index.batch_images import batch_image
from shared.index.segment_reader import SegmentReader
from shared.messaging.messages import BatchImage
from shared.state import Rejection
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet


class MissingImages:
    """Compares the claims of two embedding sets of a collection."""

    def __init__(self, clients: Clients) -> None:
        self._state = clients.state
        self._segments = SegmentReader(clients.store)

    def by_segment(self, active: EmbeddingSet, filling: EmbeddingSet) -> dict[str, list[int]]:
        """Return the ids of all missing images, by their segments in the set in use."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for claims in self._state.claims.scan(active.name):
            indexed = self._state.indexed_segments.among(active.name, sorted(set(claims.values())))
            for image_id in self._lacking(filling, list(claims)):
                if claims[image_id] in indexed:
                    found[claims[image_id]].append(image_id)
        return found

    def batches(
        self, active: EmbeddingSet, filling: EmbeddingSet, segment: str, among: Sequence[int] | None = None
    ) -> Iterator[list[BatchImage]]:
        """Yield the missing images of a segment of the set in use, `among` some ids or all, a batch at a time."""
        try:
            rows = self._segments.read(active, segment)
        except (Invalid, ObjectNotFound) as error:
            reason = f"its segment cannot be read: {error}"
            lost = {image_id: Rejection(str(image_id), "damaged-segment", reason) for image_id in among or ()}
            self._state.model_changes.add_failed(filling.name, lost)
            return
        if not self._state.indexed_segments.contains(active.name, segment):
            return
        row_of = {image_id: row for row, image_id in enumerate(segments.ids_of(rows).tolist())}
        chosen = list(row_of) if among is None else [image_id for image_id in among if image_id in row_of]
        holders = self._state.claims.holders(active.name, chosen)
        claimed = [image_id for image_id, holder in zip(chosen, holders, strict=True) if holder == segment]
        missing = self._lacking(filling, claimed)
        for start in range(0, len(missing), BATCH_SIZE):
            entries = (segments.entry_of(rows, row_of[image_id]) for image_id in missing[start : start + BATCH_SIZE])
            yield [batch_image(entry) for entry in entries]

    def _lacking(self, filling: EmbeddingSet, image_ids: Sequence[int]) -> list[int]:
        """Return those of some images that a set lacks, and that can be embedded as far as is known."""
        present = self._present(filling, image_ids)
        lacking = [image_id for image_id in image_ids if image_id not in present]
        return self._state.model_changes.without_failed(filling.name, lacking)

    def _present(self, embedding_set: EmbeddingSet, image_ids: Sequence[int]) -> set[int]:
        """Return which images an embedding set has, with their embeddings written and indexed."""
        holders = self._state.claims.holders(embedding_set.name, image_ids)
        names = sorted({holder for holder in holders if holder})
        indexed = self._state.indexed_segments.among(embedding_set.name, names)
        return {image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder in indexed}
