"""Images that are handed in again with another label: the newer label counts, and no search misses an image."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.query.replica.replica import Replica
from services.query.replica.replica_sync import ReplicaSync
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import RELABEL_IMAGES
from shared.state import IndexState, Job
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from tests.support import rows
from tests.support.deaths import moments
from tests.support.eventually import eventually
from tests.support.indexing import DIM, Died, Parts, parts_of
from tests.support.servers import Servers

NUMBERS = range(12)
MOVED = (1, 2, 5, 10)  # of both segments; their labels were painting and none


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def make_art(parts: Parts) -> EmbeddingSet:
    """Make a collection of two segments with an index."""
    art = parts.collection()
    parts.add(art, "a", NUMBERS[:6])
    parts.add(art, "b", NUMBERS[6:])
    parts.maintenance().rebuilder.rebuild(collection="art", fit=True)
    return art


def items(numbers: Sequence[int], label: str | None = "oil") -> list[BatchImage]:
    return [
        BatchImage(rows.digest(number), f"oil/{number}.jpg", label or rows.entry(number).label, 1) for number in numbers
    ]


def relabel(
    parts: Parts, numbers: Sequence[int] = MOVED, *, job: str = "j", life: list[int] | None = None, keep: bool = False
) -> Job:
    maintenance = parts.maintenance(life)
    maintenance.relabeller.relabel(job=job, batch=0, collection="art", items=items(numbers), keep=keep)
    return parts.jobs.get(job)


def live_rows(parts: Parts) -> dict[int, tuple[str, str | None, str]]:
    """Return segment, label and name of each image's row; there must be one."""
    found: dict[int, tuple[str, str | None, str]] = {}
    for segment in parts.catalog.segments("art"):
        read = segments.unpack(parts.store.get(layout.segment_key("art", segment)), verify=True)
        deleted = parts.catalog.tombstones_of("art", segment)
        for entry in (segments.entry_of(read, row) for row in range(len(read))):
            if entry.id not in deleted:
                assert entry.id not in found
                found[entry.id] = (segment, entry.label, entry.name)
    assert parts.state.claims.holders("art", list(found)) == [segment for segment, *_ in found.values()]
    assert parts.state.claims.count("art") == len(found)
    return found


def labels(parts: Parts) -> dict[int, str | None]:
    return {image_id: label for image_id, (_, label, _) in live_rows(parts).items()}


def wanted(moved: Sequence[int] = MOVED, numbers: Sequence[int] = NUMBERS) -> dict[int, str | None]:
    return {rows.image_id(number): "oil" if number in moved else rows.entry(number).label for number in numbers}


def test_the_newer_label_counts_in_store_replica_and_index(parts: Parts, tmp_path: Path) -> None:
    art = make_art(parts)
    before = parts.held(art)
    parts.job("j", batches=1)
    job = relabel(parts)
    assert (job.done, job.counts.duplicates, job.counts.relabelled, job.counts.labels_kept) == (True, 4, 4, 0)
    assert labels(parts) == wanted()
    assert live_rows(parts)[rows.image_id(1)] == ("j-000000", "oil", "oil/1.jpg")
    assert parts.held(art) == before
    parts.assert_indexed(art, NUMBERS)
    replica = Replica(art, catalog=parts.catalog, state=parts.state, folder=tmp_path)
    replica.synchronise()
    assert replica.view.counts.classes == Counter(label for label in wanted().values() if label)
    mapped, row = replica.find(rows.image_id(10))
    assert (mapped.vectors[row] == rows.embedding(10, DIM)).all()
    # It survives what rewrites rows.
    parts.maintenance().compactor.compact(collection="art", job=parts.job("compact", kind="compact"))
    assert len(parts.catalog.segments("art")) == 1
    parts.redis.flushall()
    parts.maintenance().rebuilder.rebuild(collection="art")
    assert labels(parts) == wanted()
    # And back, as often as one likes.
    for job_id, label in (("again", "etching"), ("back", "oil")):
        parts.job(job_id)
        parts.maintenance().relabeller.relabel(
            job=job_id, batch=0, collection="art", items=items(MOVED, label), keep=False
        )
        assert parts.jobs.get(job_id).counts.relabelled == 4
    assert labels(parts) == wanted()


def test_labels_that_are_kept_or_equal_change_nothing(parts: Parts) -> None:
    make_art(parts)
    before = live_rows(parts)
    parts.job("j")
    kept = relabel(parts, keep=True)
    assert (kept.counts.duplicates, kept.counts.relabelled, kept.counts.labels_kept) == (4, 0, 4)
    parts.job("same")
    parts.maintenance().relabeller.relabel(
        job="same", batch=0, collection="art", items=items(NUMBERS, None), keep=False
    )
    same = parts.jobs.get("same")
    assert (same.counts.duplicates, same.counts.relabelled) == (12, 0)
    assert live_rows(parts) == before


def test_a_relabelling_that_dies_anywhere_is_finished_and_no_search_misses_an_image(
    parts: Parts, servers: Servers, tmp_path: Path
) -> None:
    lives: list[int] = [0]
    for life in lives:
        art = make_art(parts)
        parts.job("j")
        with following(parts, tmp_path / str(life)) as replica_sync:
            left = [life]
            try:
                relabel(parts, life=left)
            except Died:
                assert_all_there(replica_sync, parts, art, tmp_path / f"{life}-fresh")
                relabel(parts)
            if life == 0:
                calls = -left[0]
                lives += moments(calls, 5)
            assert labels(parts) == wanted(), f"it died at call {life} of {calls}"
            assert parts.jobs.get("j").counts.relabelled == 4
            parts.assert_indexed(art, NUMBERS)
            assert_all_there(replica_sync, parts, art, tmp_path / f"{life}-after")
            seen = replica_sync.replica("art").view.counts.classes
            assert seen == Counter(label for label in wanted().values() if label)
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 5


class following:  # noqa: N801 -- a context
    """A query service's replicas, which follow."""

    def __init__(self, parts: Parts, folder: Path) -> None:
        folder.mkdir()
        self._sync = ReplicaSync(parts.catalog, parts.state, folder)

    def __enter__(self) -> ReplicaSync:
        self._sync.start()
        eventually(lambda: self._sync.listed.is_set() and self._sync.connected)
        return self._sync

    def __exit__(self, *_: object) -> None:
        self._sync.stop()


def assert_all_there(replica_sync: ReplicaSync, parts: Parts, art: EmbeddingSet, folder: Path) -> None:
    """Check that a replica that follows, and one that begins now, show each image once."""
    fresh = Replica(art, catalog=parts.catalog, state=parts.state, folder=folder)
    fresh.synchronise()
    for replica in (replica_sync.replica("art"), fresh):
        assert replica.view.images == len(NUMBERS)
        assert all(replica.view.row(rows.image_id(number)) is not None for number in NUMBERS)


def test_an_image_that_is_deleted_in_the_middle_stays_deleted(parts: Parts, servers: Servers) -> None:
    for life in itertools.count(20, 24):
        make_art(parts)
        parts.job("j")
        died = False
        try:
            relabel(parts, life=[life])
        except Died:
            died = True
        parts.indexer().deletion.delete(
            job=parts.job("d", kind="delete"), collection="art", image_ids=[rows.image_id(1)]
        )
        relabel(parts)
        assert labels(parts) == wanted(numbers=[number for number in NUMBERS if number != 1]), life
        servers.empty()
        parts.store.ensure_bucket()
        if not died:
            break


def test_during_a_model_change_the_new_embedding_set_gets_the_new_labels(parts: Parts) -> None:
    art = make_art(parts)
    filling = parts.catalog.create_embedding_set(art, model="other", version=1, dim=DIM)
    parts.state.index_states.set(filling.name, IndexState())
    parts.job("j")
    relabel(parts)
    assert set(parts.state.model_changes.pending_deletes(filling.name)) == {rows.image_id(number) for number in MOVED}


def test_an_intake_sends_labelled_duplicates_and_counts_the_others(parts: Parts) -> None:
    make_art(parts)
    options = IntakeOptions(batch_size=4, threads=1)
    with Intake("art", parts.clients(), options) as intake:
        for number in NUMBERS[:6]:
            data = str(number).encode()  # whose digest the row has
            intake.add(f"oil/{number}.jpg", "oil" if number < 3 else None, lambda data=data: data)  # type: ignore[misc]
        intake.add("copy.jpg", "oil", lambda: b"0")
    (batch,) = parts.jobs.unreported(intake.result())
    message = parts.jobs.sent.get(intake.job, batch)
    assert message is not None
    assert (message.task, message.arguments["keep"]) == (RELABEL_IMAGES, False)
    parts.maintenance().relabeller.relabel(
        job=intake.job,
        batch=batch,
        collection="art",
        items=[BatchImage(**item) for item in message.arguments["items"]],
        keep=False,
    )
    done = intake.result()
    assert (done.done, done.added, done.counts.duplicates, done.counts.relabelled) == (True, 0, 7, 3)
    assert labels(parts) == wanted(moved=[0, 1, 2])
