"""A segment is indexed on real servers, once however often its task runs."""

from collections import Counter
from collections.abc import Sequence

import pytest

from shared.errors import Fenced
from shared.messaging.task_queue import MAINTENANCE
from shared.state.indexing import Indexing
from tests.support import rows
from tests.support.indexing import Parts


def test_a_segment_indexed_twice_is_indexed_once(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    outcome = parts.write(art, "b", range(10, 16))
    job = parts.job()
    for _ in range(3):
        parts.indexer().segments.index(set_name="art", segment="b", job=job, batch=0, outcome=outcome)
    parts.assert_indexed(art, range(16))
    assert parts.jobs.outcome(job) == outcome
    assert parts.state.indexed_segments.contain("art", ["a", "b"]) == [True, True]
    assert parts.state.claims.count("art") == 16


def test_a_worker_that_was_stopped_until_another_had_indexed_and_merged_the_segment_writes_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    art = parts.collection()
    parts.add(art, "a", [0, 1])
    outcome = parts.write(art, "b", [2, 3])
    parts.job("j")
    look = Indexing.look
    went_on: list[str] = []

    def look_and_stop(
        indexing: Indexing, set_name: str, image_ids: Sequence[int], job: str, batch: int
    ) -> tuple[list[str | None], bool]:
        found = look(indexing, set_name, image_ids, job, batch)
        if not went_on:
            went_on.append(set_name)
            parts.indexer().segments.index(set_name="art", segment="b", job="j", batch=0, outcome=outcome)
            parts.maintenance().compactor.compact(collection="art", job="merge")
        return found

    monkeypatch.setattr(Indexing, "look", look_and_stop)
    with pytest.raises(Fenced, match="has indexed batch 0 of the job 'j'"):
        parts.indexer().segments.index(set_name="art", segment="b", job="j", batch=0, outcome=outcome)
    assert len(parts.catalog.segments("art")) == 1
    assert parts.state.indexed_segments.all("art") == set(parts.catalog.segments("art"))


def test_an_image_that_another_segment_claimed_is_buried_and_counted_as_a_duplicate(parts: Parts) -> None:
    """Two batches had it at the same time; both wrote it, and the claims say whose it is."""
    art = parts.collection()
    parts.add(art, "a", range(10))
    parts.maintenance().tuner.maintain(collection="art")
    outcome = parts.write(art, "b", [8, 9, 20, 21])
    job = parts.job()
    for _ in range(2):
        parts.indexer().segments.index(set_name="art", segment="b", job=job, batch=0, outcome=outcome)
    assert parts.catalog.tombstones("art") == {("b", rows.image_id(8)), ("b", rows.image_id(9))}
    parts.assert_indexed(art, [*range(10), 20, 21])
    assert parts.state.claims.holders("art", rows.ids([8, 20])) == ["a", "b"]
    done = parts.jobs.get(job)
    assert (done.added, done.counts.duplicates) == (2, 2)
    assert parts.jobs.outcome(job).added == dict(Counter(rows.entry(number).label or "" for number in (20, 21)))


def test_the_end_of_a_job_asks_for_a_fit_if_the_collection_has_outgrown_its_index(parts: Parts) -> None:
    art = parts.collection()
    for number, (batches, asked) in enumerate([(2, 0), (1, 1)]):  # in the middle of a job, and at its end
        outcome = parts.write(art, f"s{number}", range(10 * number, 10 * number + 10))
        job = parts.job(f"j{number}", batches=batches)
        parts.indexer().segments.index(set_name="art", segment=f"s{number}", job=job, batch=0, outcome=outcome)
        assert parts.queue.waiting()[MAINTENANCE] == asked
    parts.maintenance().tuner.maintain(collection="art")
    parts.add(art, "s2", range(20, 39))  # 39 images, not yet twice the 20
    assert parts.queue.waiting()[MAINTENANCE] == 1
    parts.add(art, "s3", [39])
    assert parts.queue.waiting()[MAINTENANCE] == 2
