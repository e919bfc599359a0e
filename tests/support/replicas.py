"""Collections for tests of replicas: segments are put, merged and compared with what a replica shows."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from services.query.replica.view import Filter, RowFilter, View
from services.query.search.ranking import rank
from shared import tuning
from shared.errors import NotFound
from shared.index.generations import Generation
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, CurrentIndex, EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.eventually import eventually

DIM = 8


class WatchedStore(ObjectStore):
    """An object store that notes which segments are read, and calls `before` with the key of each first."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store._client, store._bucket)
        self.read: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def download(self, key: str, path: Path) -> None:
        self.before(key)
        self.read.append(layout.segment_of(key))
        super().download(key, path)


def wait_for_index(replica_sync: ReplicaSync) -> None:
    """Wait until the index answers, and is known to be whole: until then searches scan exactly."""
    eventually(
        lambda: (
            replica_sync.connected and all(replica.index_fault is None for replica in replica_sync.replicas.values())
        )
    )


def put(catalog: Catalog, embedding_set: EmbeddingSet, segment: str, numbers: Sequence[int]) -> None:
    catalog.store.put(layout.segment_key(embedding_set.collection, segment), rows.segment(numbers, embedding_set))


def write_merged(catalog: Catalog, embedding_set: EmbeddingSet, merged: str, inputs: Sequence[str]) -> None:
    """Write a segment that is made of others, without rows that are deleted."""
    parts = []
    for segment in inputs:
        data = catalog.store.get(layout.segment_key(embedding_set.collection, segment))
        parts.append((segment, segments.unpack(data), catalog.tombstones_of(embedding_set.collection, segment)))
    made = segments.merge(parts)
    assert made is not None
    catalog.store.put(layout.segment_key(embedding_set.collection, merged), made)


def merge(catalog: Catalog, embedding_set: EmbeddingSet, merged: str, inputs: Sequence[str]) -> None:
    """Merge segments as the indexer does, up to the deletion of the inputs."""
    write_merged(catalog, embedding_set, merged, inputs)
    catalog.remove_segments(embedding_set.collection, inputs)


OpenReplica = Callable[[], Replica]


def assert_holds(replica: Replica, numbers: Sequence[int]) -> None:
    """Check that exactly these images are in the replica, once each, by every way to read it."""
    wanted = sorted(rows.ids(numbers))
    view = replica.view
    assert view.counts.images == len(wanted)
    assert view.counts.classes == Counter(label for number in numbers if (label := rows.entry(number).label))
    assert view.counts.bytes == sum(rows.entry(number).size for number in numbers)
    total, page = view.latest(limit=10_000, offset=0, label="")
    assert (total, view.ids[page].tolist()) == (len(wanted), rows.ids(sorted(numbers, reverse=True)))  # added later
    assert sorted(scanned(view)) == wanted
    for number in numbers:
        mapped, row = replica.find(rows.image_id(number))
        assert mapped.entry(row) == rows.entry(number)
        assert np.array_equal(mapped.vectors[row], rows.embedding(number, DIM))


def scanned(view: View) -> list[int]:
    """Return the ids of all images that a scan finds."""
    query = rows.embedding(3, DIM)[np.newaxis]
    return [hit.image_id for hit in rank(view, query, RowFilter(view, Filter()).rows(), k=10_000, metric="cosine")[0]]


def assert_gone(replica: Replica, *numbers: int) -> None:
    for number in numbers:
        with pytest.raises(NotFound, match=str(rows.image_id(number))):
            replica.find(rows.image_id(number))


def fit(catalog: Catalog, embedding_set: EmbeddingSet, number: int) -> Generation:
    family = tuning.fit(rows.embeddings(range(40), DIM), seed=number, tables=2, hashes=2, probes=2)
    generation = Generation(embedding_set, number, family)
    generation.save(catalog.store)
    catalog.set_current_index(embedding_set.collection, CurrentIndex(number, 40))
    return generation


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
