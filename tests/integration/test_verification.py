"""`artseek verify` finds damage that was made by hand, tells its kind, and mends what can be mended."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.query.replica.replica import Replica
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.index.generations import Generation
from shared.index.originals import Originals
from shared.state import IndexState
from shared.storage import evaluation_layout, layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.trash import Trash
from shared.verification import verifier
from shared.verification.findings import KINDS, Kind, Report
from shared.verification.repair import Repairer
from shared.verification.verifier import QUICK, Extent, Verifier
from tests.support import rows
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(verifier, "_PAUSE_S", 0.0)
    return parts_of(servers.settings)


@pytest.fixture
def art(parts: Parts) -> EmbeddingSet:
    """A whole collection beside another: a merged and a new segment, an index, a deleted image, a query set."""
    made = parts.collection()
    parts.add(made, "a", range(12))
    parts.add(made, "b", range(12, 20))
    parts.maintenance().tuner.maintain(collection="art")
    parts.indexer().deletion.delete(
        job=parts.job("d", kind="delete"), collection="art", image_ids=[rows.image_id(5)], purge=False
    )
    parts.maintenance().compactor.compact(collection="art", job=parts.job("c", kind="compact"))
    parts.add(made, "later", range(20, 25))
    other = parts.collection("other")
    parts.add(other, "o", range(3))
    query = b"a query"
    parts.store.put(evaluation_layout.query_key(layout.digest_of(query)), query)
    queries = QuerySets(parts.store, parts.state)
    with queries.changing():
        queries.add(QuerySet((LabelledQuery(layout.digest_of(query), "q.jpg", "x", len(query)),)), name="kept")
    return made


def verify(parts: Parts, extent: Extent | None = None) -> Report:
    return Verifier(parts.clients(), query=None).verify(extent or Extent())


def repair(parts: Parts, report: Report, replica_folder: Path | None = None) -> Report:
    def run_job(kind: str, collection: str) -> None:
        maintenance = parts.maintenance()
        job = parts.job(f"{kind}-{collection}", kind="rebuild")
        if kind == "rebuild":
            maintenance.rebuilder.rebuild(collection=collection, job=job)
        else:
            maintenance.compactor.compact(collection=collection, job=job)

    lost = Repairer(parts.clients(), run_job=run_job, replica_folder=replica_folder).repair(report)
    return report.after_repair(verify(parts), lost)


def found(report: Report) -> dict[Kind, tuple[str | None, int]]:
    return {finding.kind: (finding.collection, len(finding.keys)) for finding in report.findings}


def original(number: int) -> str:
    return layout.original_key(rows.digest(number))


# Each makes damage by hand, and says what is to be found; the third says whether it can be mended.


def lose_claims(parts: Parts, _: EmbeddingSet) -> None:
    parts.redis.hdel("claims:art", *(str(rows.image_id(number)) for number in range(3)))


def claim_for_others(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.claims.assign("art", {rows.image_id(20): "elsewhere", rows.image_id(21): "elsewhere"})


def claim_without_rows(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.claims.assign("art", {rows.image_id(100): "later"})


def lose_buckets(parts: Parts, art: EmbeddingSet) -> None:
    generation = Generation.load(parts.store, art, 1)
    numbers = [20, 21]
    generation.remove(parts.buckets, np.array(rows.ids(numbers)), rows.embeddings(numbers, DIM))


def fill_buckets(parts: Parts, art: EmbeddingSet) -> None:
    generation = Generation.load(parts.store, art, 1)
    generation.add(parts.buckets, np.array([rows.image_id(100)]), rows.embeddings([100], DIM))


def leave_buckets(parts: Parts, art: EmbeddingSet) -> None:
    prefix = Generation.load(parts.store, art, 1).prefix
    parts.buckets.add([prefix[:-1] + b"\x07" + b"bucket"], [rows.image_id(0)])


def forget_state(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.index_states.set("art", IndexState())


def damage_generation(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(layout.generation_key("art", 1), b"damaged")


def forget_segment(parts: Parts, _: EmbeddingSet) -> None:
    parts.state.indexed_segments.remove("art", ["later"])


def write_twice(parts: Parts, art: EmbeddingSet) -> None:
    parts.store.put(layout.segment_key("art", "twice"), rows.segment([20], art))
    parts.state.indexed_segments.add("art", "twice")


def leave_tombstones(parts: Parts, _: EmbeddingSet) -> None:
    parts.catalog.add_tombstones("art", [("gone", 1), ("gone", 2)])


def damage_tombstones(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(layout.tombstone_list_key("art", "later", "0" * 64), b"{")


def damage_trash(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(layout.trash_batch_key("art", "0" * 64), b"{")


def leave_merge(parts: Parts, _: EmbeddingSet) -> None:
    parts.catalog.begin_merge("art", layout.new_merged_segment(), ["later"])


def delete_original(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.delete([original(20)])


def damage_original(parts: Parts, _: EmbeddingSet) -> None:
    data = parts.store.get(original(20))
    parts.store.put(original(20), bytes([data[0] ^ 1]) + data[1:])


def leave_original(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(original(100), b"100")


def delete_trashed_original(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.delete([original(5)])


def damage_segment(parts: Parts, _: EmbeddingSet) -> None:
    key = layout.segment_key("art", "later")
    data = parts.store.get(key)
    parts.store.put(key, data[:-200] + b"\0" * 100 + data[-100:])


def delete_segment(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.delete([layout.segment_key("art", "later")])


def damage_manifest(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(layout.manifest_key("other"), b"{}")


def delete_manifest(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.delete([layout.manifest_key("art")])


def damage_evaluation(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(evaluation_layout.evaluation_key("art", "1"), b"{")


def leave_evaluation(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.put(evaluation_layout.evaluating_prefix("ended") + "run", b"")


def damage_query_set(parts: Parts, _: EmbeddingSet) -> None:
    (digest,) = QuerySets(parts.store, parts.state).digests()
    parts.store.put(evaluation_layout.query_set_key(digest), b"{}")


def delete_query(parts: Parts, _: EmbeddingSet) -> None:
    parts.store.delete([evaluation_layout.query_key(layout.digest_of(b"a query"))])


DAMAGE: list[tuple[Callable[[Parts, EmbeddingSet], None], Kind, tuple[str | None, int], bool]] = [
    (lose_claims, "claim-missing", ("art", 3), True),
    (claim_for_others, "claim-wrong", ("art", 2), True),
    (claim_without_rows, "claim-without-row", ("art", 1), True),
    (lose_buckets, "bucket-incomplete", ("art", 2), True),
    (fill_buckets, "bucket-surplus", ("art", 1), True),
    (leave_buckets, "bucket-surplus", ("art", 1), True),
    (forget_state, "index-state-wrong", ("art", 1), True),
    (damage_generation, "generation-damaged", ("art", 1), True),
    (forget_segment, "segment-unindexed", ("art", 1), True),
    (write_twice, "row-twice", ("art", 1), True),
    (leave_tombstones, "tombstone-without-segment", ("art", 2), True),
    (leave_merge, "merge-unfinished", ("art", 1), True),
    (leave_original, "original-unheld", (None, 1), True),
    (delete_manifest, "manifest-missing", ("art", 1), True),
    (leave_evaluation, "evaluation-leftover", (None, 1), True),
    (damage_tombstones, "tombstones-unreadable", ("art", 1), False),
    (damage_trash, "trash-unreadable", ("art", 1), False),
    (delete_original, "original-missing", ("art", 1), False),
    (damage_original, "original-damaged", ("art", 1), False),
    (delete_trashed_original, "trash-original-missing", ("art", 1), False),
    (damage_segment, "segment-damaged", ("art", 1), False),
    (delete_segment, "segment-missing", ("art", 1), False),
    (damage_manifest, "manifest-unreadable", ("other", 1), False),
    (damage_evaluation, "evaluation-unreadable", ("art", 1), False),
    (damage_query_set, "query-set-unreadable", (None, 1), False),
    (delete_query, "query-missing", (None, 1), False),
]


def test_every_kind_of_damage_has_an_example() -> None:
    of_links = {"link-missing", "link-changed"}  # tests/integration/test_linked_originals.py
    assert {kind for _, kind, _, _ in DAMAGE} | of_links | {"replica-differs"} == set(KINDS)


def test_a_whole_system_is_whole(parts: Parts, art: EmbeddingSet) -> None:
    report = verify(parts)
    assert report.to_json() == {
        "ok": True,
        "findings": [],
        "collections": 2,
        "images": 27,
        "originals": 25,
        "originals_read": 24,
    }
    assert verify(parts, Extent(collection="other")).images == 3
    assert art.collection == "art"


@pytest.mark.parametrize(
    ("make", "kind", "expected", "mended"), DAMAGE, ids=lambda value: getattr(value, "__name__", "")
)
def test_damage_is_found_and_mended_where_it_can_be(
    parts: Parts,
    art: EmbeddingSet,
    make: Callable[[Parts, EmbeddingSet], None],
    kind: Kind,
    expected: tuple[str | None, int],
    mended: bool,  # noqa: FBT001 -- a parameter of the table
) -> None:
    make(parts, art)

    report = verify(parts)

    assert found(report)[kind] == expected
    assert not report.ok
    after = repair(parts, report)
    assert {finding.repaired for finding in after.findings if finding.kind == kind} == {mended}
    assert after.ok is mended
    if mended:
        assert verify(parts).findings == ()
        if kind != "generation-damaged":
            parts.assert_indexed(parts.catalog.get("art"), [*range(5), *range(6, 25)])


@pytest.mark.parametrize("make", [damage_segment, delete_segment])
def test_a_segment_comes_back_from_the_copy_of_the_query_service(
    parts: Parts, art: EmbeddingSet, tmp_path: Path, make: Callable[[Parts, EmbeddingSet], None]
) -> None:
    Replica(art, catalog=parts.catalog, state=parts.state, folder=tmp_path).synchronise()
    before = parts.store.get(layout.segment_key("art", "later"))
    make(parts, art)
    assert repair(parts, verify(parts), tmp_path).ok
    assert parts.store.get(layout.segment_key("art", "later")) == before


@pytest.mark.parametrize("make", [damage_segment, delete_segment])
def test_what_was_deleted_stays_deleted_when_its_segment_comes_back(
    parts: Parts, art: EmbeddingSet, tmp_path: Path, make: Callable[[Parts, EmbeddingSet], None]
) -> None:
    Replica(art, catalog=parts.catalog, state=parts.state, folder=tmp_path).synchronise()
    parts.delete("art", rows.ids([21, 23]), job="d2")
    make(parts, art)
    assert repair(parts, verify(parts), tmp_path).ok
    parts.assert_indexed(art, [*range(5), *range(6, 21), 22, 24])
    assert verify(parts).ok


def test_what_was_deleted_in_a_segment_that_nobody_has_stays_deleted(parts: Parts, art: EmbeddingSet) -> None:
    parts.delete("art", rows.ids([21, 23]), job="d2")
    delete_segment(parts, art)
    assert not repair(parts, verify(parts)).ok
    assert parts.catalog.tombstones_of("art", "later") == set(rows.ids([21, 23]))  # it may come from a backup


def test_the_images_of_a_segment_that_is_lost_can_be_restored_from_the_trash(parts: Parts, art: EmbeddingSet) -> None:
    delete_segment(parts, art)
    parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"))
    lost = {rows.digest(number) for number in range(20, 25)}
    assert set(Trash(parts.store).digests("art")) == {rows.digest(5), *lost}
    assert verify(parts).ok  # nothing holds them but the trash, so they are not unheld
    assert all(parts.store.exists(original(number)) for number in range(20, 25))


def test_originals_of_a_collection_whose_manifest_is_lost_are_not_collected(parts: Parts, art: EmbeddingSet) -> None:
    delete_manifest(parts, art)
    parts.state.forget("art")
    digests = [rows.digest(number) for number in range(25)]
    kept = Originals(parts.clients(), parts.queue).delete_unheld(digests)
    assert set(kept) == set(digests)
    assert all(parts.store.exists(layout.original_key(digest)) for digest in digests)


def test_what_is_on_its_way_is_no_damage(parts: Parts, art: EmbeddingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.jobs.create("coming", "art")
    parts.jobs.extend("coming", batches=1, total=5, closed=False)
    outcome = parts.write(art, "coming-000000", range(40, 45))  # written and claimed, not indexed yet
    for number in range(50, 55):  # uploaded, not embedded yet
        parts.state.pins.pin(rows.digest(number), "coming")
        parts.store.put(original(number), b"%d" % number)

    assert verify(parts).findings == ()

    # In the middle of the deletion of an image: tombstone and buckets, not yet the claim.
    def end_deletion(_: float) -> None:
        parts.state.claims.release("art", "later", [rows.image_id(21)])

    monkeypatch.setattr("time.sleep", end_deletion)
    parts.catalog.add_tombstones("art", [("later", rows.image_id(21))])
    generation = Generation.load(parts.store, art, 1)
    generation.remove(parts.buckets, np.array([rows.image_id(21)]), rows.embeddings([21], DIM))
    parts.store.delete([original(21)])
    assert verify(parts).findings == ()
    assert outcome.images == 5


def test_the_daily_half_leaves_out_buckets_and_the_contents_of_originals(parts: Parts, art: EmbeddingSet) -> None:
    lose_buckets(parts, art)
    damage_original(parts, art)
    lose_claims(parts, art)
    assert found(verify(parts, QUICK)) == {"claim-missing": ("art", 3)}


def test_a_verification_of_one_collection_leaves_what_is_known_of_the_others(parts: Parts, art: EmbeddingSet) -> None:
    lose_claims(parts, art)
    parts.redis.hdel("claims:other", str(rows.image_id(0)))
    verifications = parts.state.verifications
    verifications.set(verify(parts).damage())
    first = verifications.get()
    assert first is not None
    assert [(found.collection, found.count) for found in first.damage] == [("art", 3), ("other", 1)]

    verifications.set((), only="art")

    last = verifications.get()
    assert last is not None
    assert (last.ended, last.of("art"), [found.count for found in last.of("other")]) == (first.ended, [], [1])
