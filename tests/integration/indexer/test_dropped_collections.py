"""Every job for a collection that is gone reports."""

from dataclasses import replace

import pytest

from shared.errors import NotFound
from shared.messaging.task_queue import EMBED_BATCH, INDEX_SEGMENT
from shared.state import IndexState
from shared.state.outcomes import Outcome
from shared.state.sent_messages import SentMessage
from tests.support.indexing import Parts


def test_every_job_for_a_collection_that_was_dropped_reports(parts: Parts) -> None:
    outcome = Outcome({"painting": 2, "": 1}, duplicates=4)
    indexer, maintenance = parts.indexer(), parts.maintenance()
    indexer.segments.index(set_name="gone", segment="s", job=parts.job("j1"), batch=0, outcome=outcome)
    indexer.deletion.delete(job=parts.job("j2", kind="delete"), collection="gone", image_ids=[1])
    maintenance.dropper.drop(job=parts.job("j3", kind="drop"), collection="gone")
    maintenance.tuner.maintain(job=parts.job("j4", kind="maintain"), collection="gone")
    maintenance.rebuilder.rebuild(job=parts.job("j5", kind="rebuild"), collection="gone")
    jobs = [parts.jobs.get(f"j{number}") for number in range(1, 6)]
    assert [job.done for job in jobs] == [True] * 5
    assert [job.counts.affected for job in jobs] == [0] * 5
    ingested = parts.jobs.outcome("j1")
    assert (ingested.added, ingested.duplicates, len(ingested.rejected)) == ({}, 4, 3)
    assert {rejection.code for rejection in ingested.rejected} == {"dropped"}
    with pytest.raises(NotFound):
        parts.catalog.get("gone")


def test_a_segment_of_a_collection_that_was_dropped_and_made_anew_reports(parts: Parts) -> None:
    art = parts.collection()
    outcome = parts.write(art, "a", range(3))
    parts.maintenance().dropper.drop(job=parts.job("j1", kind="drop"), collection="art")
    parts.collection()
    parts.indexer().segments.index(set_name="art", segment="a", job=parts.job("j2"), batch=0, outcome=outcome)
    done = parts.jobs.get("j2")
    assert (done.done, done.added, done.counts.rejected) == (True, 0, {"dropped": 3})
    assert parts.state.claims.count("art") == 0


@pytest.mark.parametrize("sent", [INDEX_SEGMENT, EMBED_BATCH])
def test_a_segment_that_went_with_the_set_which_the_collection_left_reports(parts: Parts, sent: str) -> None:
    """Unless its images were sent to be embedded again: then the new batch reports."""
    art, job = parts.collection(), parts.job("j1")
    outcome = parts.write(art, "a", range(3))
    parts.catalog.put_manifest(replace(art, number=1, version=2))
    parts.state.index_states.set("art.1", IndexState())
    parts.catalog.remove_segments("art", ["a"])
    parts.jobs.sent.note(job, 0, SentMessage(sent, {"job": job, "batch": 0}))
    parts.indexer().segments.index(set_name="art", segment="a", job=job, batch=0, outcome=outcome)
    found = parts.jobs.get(job)
    assert (found.done, found.counts.rejected) == ((True, {"dropped": 3}) if sent == INDEX_SEGMENT else (False, {}))
