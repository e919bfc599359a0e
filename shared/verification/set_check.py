"""Checks an embedding set: its segments and tombstones, and what Redis holds of it against their rows."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.clients import Clients
from shared.errors import Invalid, ObjectNotFound
from shared.index.consistency import IndexCheck, IndexedRows
from shared.index.generations import Generation, collection_prefix, generation_of_bucket
from shared.index.segment_reader import SegmentReader, float32
from shared.index.unreported_segments import unreported_segments
from shared.state.locks import segments_lock
from shared.storage import segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.documents import PageFile
from shared.verification.compact_sets import DIGEST, HeldImages, OriginalSizes
from shared.verification.findings import Damage


@dataclass(eq=False)
class SetContents:
    """What the readable segments of an embedding set hold.

    Attributes:
        held: The images that have a live row.
        sizes: The originals of all live rows, and the documents that rows are pages of.
        complete: Whether all segments could be read.
    """

    held: HeldImages = field(default_factory=HeldImages)
    sizes: OriginalSizes = field(default_factory=OriginalSizes)
    complete: bool = True


class SetCheck:
    """Checks embedding sets. Without `buckets`, the buckets of the index are not read."""

    def __init__(self, clients: Clients, *, buckets: bool) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog
        self._reader, self._index = SegmentReader(clients.store), IndexCheck(clients.catalog, clients.state)
        self._buckets = buckets

    def check(
        self, embedding_set: EmbeddingSet, damage: Damage, *, on_segment: Callable[[], None] = lambda: None
    ) -> SetContents:
        """Note what is wrong with an embedding set; returns what its segments hold."""
        set_name, collection = embedding_set.name, embedding_set.collection
        indexed = self._state.indexed_segments.all(set_name)
        try:
            deleted = self._catalog.tombstones_by_segment(set_name)
        except Invalid as error:
            damage.add("tombstones-unreadable", collection, [error])
            return SetContents(complete=False)
        listed = set(self._catalog.segments(set_name))
        generation = self._generation(embedding_set, damage)
        contents = SetContents()
        readable: set[str] = set()
        for segment in sorted(listed):
            rows = self._read(embedding_set, segment, damage, contents)
            if rows is not None:
                readable.add(segment)
                in_index = generation if segment in indexed else None
                self._check_rows(embedding_set, segment, rows, deleted[segment], in_index, contents, damage)
            on_segment()
        unreported = unreported_segments(self._state.jobs, listed | indexed)
        damage.add("segment-missing", collection, indexed - listed)
        damage.add("segment-unindexed", collection, (listed & readable) - indexed - unreported)
        damage.add(
            "tombstone-without-segment",
            collection,
            (f"{segment}/{image_id}" for segment in deleted.keys() - listed for image_id in deleted[segment]),
        )
        if not self._state.locks.is_held(segments_lock(collection)):
            damage.add("merge-unfinished", collection, self._catalog.merges(set_name))
        self._check_claims(embedding_set, contents, listed, readable, damage)
        if len(contents.held):
            fault = self._index.state_fault(embedding_set, generation)
            damage.add("index-state-wrong", collection, [fault] if fault else [])
        if self._buckets and generation is not None:
            self._check_surplus(embedding_set, generation, contents, damage)
        return contents

    def _generation(self, embedding_set: EmbeddingSet, damage: Damage) -> Generation | None:
        try:
            current = self._catalog.current_index(embedding_set.name)
            if current is None:
                return None
            return Generation.load(self._store, embedding_set, current.generation)
        except (Invalid, ObjectNotFound) as error:
            damage.add("generation-damaged", embedding_set.collection, [error])
            return None

    def _read(
        self, embedding_set: EmbeddingSet, segment: str, damage: Damage, contents: SetContents
    ) -> pa.RecordBatch | None:
        try:
            return self._reader.read(embedding_set, segment)
        except ObjectNotFound:  # merged since it was listed, or missing: the list of indexed segments tells
            return None
        except Invalid:
            damage.add("segment-damaged", embedding_set.collection, [segment])
            contents.complete = False
            return None

    def _check_rows(
        self,
        embedding_set: EmbeddingSet,
        segment: str,
        rows: pa.RecordBatch,
        deleted: set[int],
        generation: Generation | None,
        contents: SetContents,
        damage: Damage,
    ) -> None:
        """Check the live rows of a segment against claims and buckets, and note them in `contents`."""
        ids = segments.ids_of(rows)
        live = ~np.isin(ids, np.fromiter(deleted, np.int64, len(deleted)))
        self._note_originals(rows, live, contents.sizes)
        image_ids = ids[live].tolist()
        collection, set_name = embedding_set.collection, embedding_set.name
        twice = set(ids[live][contents.held.have(ids[live])].tolist())
        damage.add("row-twice", collection, twice)
        holders = self._state.claims.holders(set_name, image_ids)
        claimed = {
            image_id: holder for image_id, holder in zip(image_ids, holders, strict=True) if image_id not in twice
        }
        damage.add("claim-missing", collection, (image_id for image_id, holder in claimed.items() if holder is None))
        damage.add(
            "claim-wrong",
            collection,
            (image_id for image_id, holder in claimed.items() if holder not in {None, segment}),
        )
        contents.held.add(ids[live])
        if self._buckets and generation is not None and image_ids:
            checked = IndexedRows([segment] * len(image_ids), ids[live], float32(rows)[live])
            incomplete = self._index.incomplete(generation, checked)
            damage.add("bucket-incomplete", collection, checked.ids[incomplete].tolist())

    def _note_originals(self, rows: pa.RecordBatch, live: npt.NDArray[np.bool_], sizes: OriginalSizes) -> None:
        """Note the originals of live rows, and the documents that they are pages of."""
        digests = np.frombuffer(segments.digest_bytes_of(rows), DIGEST)
        sizes.add(digests[live], rows.column("size").to_numpy()[live])
        further = np.array([page is not None and page.page > 1 for page in segments.documents_of(rows)], dtype=np.bool_)
        for row in np.flatnonzero(live & further).tolist():
            entry = segments.entry_of(rows, row)
            if entry.document is not None and entry.size == 0:  # imported without a picture
                sizes.add_each([(bytes.fromhex(entry.document.document), 0)])
            elif entry.document is not None:
                page_file = PageFile(entry.document.document, entry.document.page, entry.size)
                digests_of_both = bytes.fromhex(entry.document.document), bytes.fromhex(entry.digest)
                sizes.add_each(zip(digests_of_both, (entry.size, len(page_file.data)), strict=True))

    def _check_claims(
        self, embedding_set: EmbeddingSet, contents: SetContents, listed: set[str], readable: set[str], damage: Damage
    ) -> None:
        """Note the claims of images that no readable segment has a live row of."""
        for claims in self._state.claims.scan(embedding_set.name):
            image_ids = np.fromiter(claims, np.int64, len(claims))
            without_row = {
                image_id: claims[image_id] for image_id in image_ids[~contents.held.have(image_ids)].tolist()
            }
            coming = unreported_segments(self._state.jobs, set(without_row.values()) - listed)
            damage.add(
                "claim-without-row",
                embedding_set.collection,
                (
                    image_id
                    for image_id, holder in without_row.items()
                    if holder in readable or holder not in listed | coming
                ),
            )

    def _check_surplus(
        self, embedding_set: EmbeddingSet, generation: Generation, contents: SetContents, damage: Damage
    ) -> None:
        """Note the images in buckets that have no live row, and the buckets of other generations."""
        state = self._state.index_states.get(embedding_set.name)
        kept = [generation.number] if state is None else [generation.number, *state.generations]
        for name, ids in self._state.buckets.scan(collection_prefix(embedding_set)):
            if generation_of_bucket(embedding_set, name) not in kept:
                damage.add("bucket-surplus", embedding_set.collection, [name.hex()])
            elif contents.complete:
                damage.add("bucket-surplus", embedding_set.collection, ids[~contents.held.have(ids)].tolist())
