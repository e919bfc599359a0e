"""An emptied index is rebuilt from the object store."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from shared.errors import IndexLost
from shared.index.generations import Generation, collection_prefix
from shared.index.segment_reader import LiveRows, SegmentReader
from shared.index.unreported_segments import unreported_segments
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


@pytest.mark.parametrize("reported", [True, False])
def test_an_image_that_is_deleted_and_added_again_during_a_rebuild_is_there_after_it(
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
    reported: bool,  # noqa: FBT001 -- a parameter
) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    live_rows = SegmentReader.live_rows
    index: list[Any] = []

    def meanwhile(reader: SegmentReader, *arguments: Any, **options: Any) -> Iterator[LiveRows]:
        yield from live_rows(reader, *arguments, **options)
        if not index:
            parts.delete("art", rows.ids([3]))
            outcome = parts.write(art, "back-000000", [3])
            parts.job("back")
            index.append(
                partial(
                    parts.indexer().segments.index,
                    set_name="art",
                    segment="back-000000",
                    job="back",
                    batch=0,
                    outcome=outcome,
                )
            )
            if reported:
                index[0]()

    monkeypatch.setattr(SegmentReader, "live_rows", meanwhile)
    parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"))
    assert parts.state.claims.holders("art", rows.ids([2, 3])) == ["a", "back-000000"]
    index[0]()
    parts.assert_indexed(art, range(10))


def test_a_segment_that_is_reported_while_claims_without_rows_are_released_keeps_its_claims(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    parts.state.claims.claim("art", "coming-000000", rows.ids([20]))
    parts.job("coming")
    name = "services.maintenance.claim_restorer.unreported_segments"

    def late(*arguments: Any) -> set[str]:
        outcome = parts.write(art, "coming-000000", [20])
        parts.indexer().segments.index(set_name="art", segment="coming-000000", job="coming", batch=0, outcome=outcome)
        return unreported_segments(*arguments)

    monkeypatch.setattr(name, late)
    parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"))
    assert parts.state.claims.holders("art", rows.ids([20])) == ["coming-000000"]
    parts.assert_indexed(art, [*range(10), 20])


def test_a_rebuild_makes_another_index_where_nobody_can_tell_which_is_in_use(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(20))
    parts.maintenance().tuner.maintain(collection="art")
    parts.store.put(layout.current_index_key("art"), b"{")
    parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"))
    assert parts.catalog.current_index("art") == CurrentIndex(2, 20)
    parts.assert_indexed(art, range(20))
