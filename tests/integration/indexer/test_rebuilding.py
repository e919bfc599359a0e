"""An emptied index is rebuilt from the object store."""

from functools import partial

import numpy as np
import pytest

from shared.errors import IndexLost
from shared.index.generations import Generation, collection_prefix
from shared.messaging.task_queue import MAINTENANCE
from shared.storage import layout
from shared.storage.catalog import CurrentIndex
from tests.support import rows
from tests.support.indexing import DIM, Parts


def test_an_emptied_index_is_rebuilt_as_it_was(parts: Parts) -> None:
    collections = [parts.collection("art"), parts.collection("other")]
    for collection in collections:
        parts.add(collection, "a", range(20))
        parts.maintenance().tuner.maintain(collection=collection.collection)
        parts.add(collection, "b", range(20, 30))
        parts.indexer().deletion.delete(
            job=parts.job(f"d-{collection.collection}", kind="delete"),
            collection=collection.collection,
            image_ids=[rows.image_id(5)],
        )
    before = [{**parts.snapshot(collection), "jobs": None} for collection in collections]
    parts.redis.flushall()
    for collection in collections:
        job = parts.job(f"r-{collection.collection}", kind="rebuild")
        parts.maintenance().rebuilder.rebuild(collection=collection.collection, job=job)
        assert parts.jobs.get(job).counts.affected == 29
    assert [{**parts.snapshot(collection), "jobs": None} for collection in collections] == before


def test_a_rebuild_of_a_whole_index_changes_nothing_and_takes_out_what_does_not_belong(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    job = parts.job("r", kind="rebuild")
    before = {**parts.snapshot(art), "jobs": None}
    generation = Generation.load(parts.store, art, 1)
    parts.buckets.add([collection_prefix(art) + b"\x00\x07" + b"stale"], [1])
    generation.remove(parts.buckets, np.array([rows.image_id(3)]), rows.embeddings([3], DIM))
    parts.maintenance().rebuilder.rebuild(collection="art", job=job)
    assert {**parts.snapshot(art), "jobs": None} == before


def test_a_worker_that_finds_the_index_restored_already_does_not_restore_it_again(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    generation = Generation.load(parts.store, art, 1)
    generation.remove(parts.buckets, np.array([rows.image_id(3)]), rows.embeddings([3], DIM))
    before = parts.snapshot(art)
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert parts.snapshot(art) == before


def test_a_rebuild_may_fit_anew(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art", fit=True)
    assert parts.catalog.current_index("art") == CurrentIndex(2, 20)
    parts.assert_indexed(art, range(20))


def test_of_an_image_in_two_segments_a_rebuild_keeps_one(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.store.put(layout.segment_key("art", "b"), rows.segment([9, 10], art))
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert parts.catalog.tombstones("art") == {("b", rows.image_id(9))}
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, range(11))


def test_a_task_on_a_lost_index_asks_for_a_rebuild_and_waits(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    outcome = parts.write(art, "b", range(20, 25))
    parts.redis.flushall()
    parts.state.claims.claim("art", "b", rows.ids(range(20, 25)))
    job = parts.job()
    index = partial(parts.indexer().segments.index, set_name="art", segment="b", job=job, batch=0, outcome=outcome)
    delete = partial(
        parts.indexer().deletion.delete, job=parts.job(kind="delete"), collection="art", image_ids=rows.ids([3])
    )
    for task in (index, delete):
        waiting = parts.queue.waiting()[MAINTENANCE]
        for _ in range(3):  # the request is made once in a while, not by every attempt
            with pytest.raises(IndexLost, match="is being rebuilt"):
                task()
        assert parts.queue.waiting()[MAINTENANCE] == waiting + 1
        parts.maintenance().rebuilder.rebuild(collection="art")
        task()
        parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, [*range(3), *range(4, 25)])
    parts.redis.flushall()
    parts.maintenance().tuner.maintain(collection="art")
    parts.assert_indexed(art, [*range(3), *range(4, 25)])


def test_a_collection_that_was_never_fitted_is_rebuilt_and_fitted(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, range(10))
