"""Embeds the windows of images, which are rows of a segment of the collection's regions.

All windows of an image get into one segment, so that an image whose first window is there has all of them.
"""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from services.embedder.image_decoding import ImageDecoding
from shared.errors import NotFound, ObjectNotFound
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.rpc.serving import ServingClient
from shared.state import Rejection
from shared.state.attempts import Attempt
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet


class WindowEmbedding:
    """Writes segments of windows. Every call may run twice, and at the same time."""

    def __init__(
        self, clients: WorkerClients, decoding: ImageDecoding, *, vector_type: Literal["float32", "float16"]
    ) -> None:
        self._store, self._catalog, self._state = clients.store, clients.catalog, clients.state
        self._decoding, self._vector_type = decoding, vector_type

    def write(
        self,
        attempt: Attempt,
        segment: str,
        regions: EmbeddingSet,
        items: Sequence[BatchImage],
        serving: ServingClient,
    ) -> tuple[int, dict[str, Rejection]]:
        """Embed the windows of images that have none, and write them as a segment.

        Returns:
            How many images are in the segment, and by the digests of others why their windows cannot be embedded.
        """
        try:
            rows = segments.unpack(self._store.get(layout.segment_key(regions.name, segment)), verify=True)
        except ObjectNotFound:
            pass
        else:
            return len(set(rows.column("digest").to_pylist())), {}
        entries, vectors = list[segments.Entry](), []
        refused: dict[str, Rejection] = {}
        size, now = serving.signature().input_size, time.time()
        wanted = self._without_windows(regions, segment, self._live(regions, items))
        for item, found in self._decoding.decode_windows(attempt, wanted, size=size):
            if isinstance(found, Rejection):
                refused[item.digest] = found
            elif not len(found.pixels):
                refused[item.digest] = Rejection(item.title, "too-small", "it is too small for windows of it")
            else:
                entries += found.entries(now)
                vectors.append(serving.embed(found.pixels).astype(self._vector_type))
        held = self._claim(regions, segment, [entry.id for entry in entries])
        live = {item.digest for item in self._live(regions, wanted)}
        kept = [row for row, entry in enumerate(entries) if held[row] and entry.digest in live]
        if not kept:
            return 0, refused
        data = segments.pack(
            [entries[row] for row in kept],
            np.concatenate(vectors)[kept],
            collection=regions.name,
            model=regions.model,
            version=regions.version,
        )
        attempt.check()
        self._store.put(layout.segment_key(regions.name, segment), data)
        return len({entries[row].digest for row in kept}), refused

    def _live(self, regions: EmbeddingSet, items: Sequence[BatchImage]) -> list[BatchImage]:
        """Return the images that the collection has: none of the others may leave an embedding behind."""
        try:
            active = self._catalog.get(layout.collection_with(regions.collection))
        except NotFound:
            return []
        holders = self._state.claims.holders(active.name, [layout.image_id(item.digest) for item in items])
        return [item for item, holder in zip(items, holders, strict=True) if holder is not None]

    def _without_windows(self, regions: EmbeddingSet, segment: str, items: Sequence[BatchImage]) -> list[BatchImage]:
        """Return the images whose windows are in no other segment."""
        holders = self._state.claims.holders(regions.name, [layout.window_id(item.digest, 0) for item in items])
        unwritten = self._unwritten(regions, segment, holders)
        return [
            item
            for item, holder in zip(items, holders, strict=True)
            if holder in {None, segment} or holder in unwritten
        ]

    def _claim(self, regions: EmbeddingSet, segment: str, ids: Sequence[int]) -> list[bool]:
        """Claim windows; returns for each whether it is the segment's."""
        after = self._state.claims.claim(regions.name, segment, ids)
        unwritten = self._unwritten(regions, segment, after)
        taken = [window for window, holder in zip(ids, after, strict=True) if holder in unwritten]
        self._state.claims.take_over(regions.name, segment, taken)
        return [holder == segment or holder in unwritten for holder in after]

    def _unwritten(self, regions: EmbeddingSet, segment: str, holders: Sequence[str | None]) -> set[str]:
        """Return those of other segments that hold windows and are not there: the tasks that were to write them died.

        A task may also be at work; then the claims decide once more when the segments are indexed.
        """
        others = sorted({holder for holder in holders if holder is not None and holder != segment})
        indexed = self._state.indexed_segments.among(regions.name, others)
        return {
            other
            for other in others
            if other not in indexed and not self._store.exists(layout.segment_key(regions.name, other))
        }
