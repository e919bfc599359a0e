"""Nothing of a purged image is left, and a purge that dies or comes at a bad moment is finished."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from shared.errors import Unavailable
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.evaluation.redaction import NO_DIGEST, EvaluationRedactor
from shared.evaluation.rows import ROWS, parquet, rows_of
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.evaluation_reports import a_query_set, a_report
from tests.support.indexing import Died, Parts
from tests.support.trash import live, outcome


def names_in_store(parts: Parts, number: int) -> list[str]:
    """Return the objects that have an image's digest or name in their keys or, as text or bytes, in their data."""
    digest, name = rows.digest(number), rows.entry(number).name.encode()
    found = []
    for item in parts.store.list(""):
        data = parts.store.get(item.key)
        if item.key.endswith(".parquet"):
            data = json.dumps(rows_of(parts.store, "art", item.key.split("/")[-1][:-8]).to_pylist()).encode()
        if digest in item.key or digest.encode() in data or bytes.fromhex(digest) in data or name in data:
            found.append(item.key)
    return found


def evaluate(parts: Parts, numbers: Sequence[int]) -> None:
    """Write an evaluation of `art` whose queries are images, as a sample's are, and a query set of them."""
    (copy,) = a_query_set().copies or ()
    copies = tuple(replace(copy, name=f"{number}.jpg", digest=rows.digest(number)) for number in numbers)
    report = a_report(query_set=a_query_set(copies=copies))
    row = {
        "run": "exact", "label": "a", "in_collection": True, "relevant": 1, "hits": [], "hit_labels": [],
        "distances": [], "scores": [], "p_at_k": 1.0, "ap_at_k": 1.0, "recall_at_k": 1.0, "candidates": 1, "seen": 1,
        "latency_ms": 1.0,
    }  # fmt: skip
    table = pa.Table.from_pylist(
        [
            {**row, "query": place, "digest": rows.digest(number), "id": rows.image_id(number), "name": f"{number}.jpg"}
            for place, number in enumerate(numbers)
        ],
        schema=ROWS,
    )
    Evaluations(parts.store).put("art", report, parquet(table))
    queries = QuerySet.of(LabelledQuery(rows.digest(number), f"{number}.jpg", "a", 1) for number in numbers)
    QuerySets(parts.store, parts.state).add(queries, name="kept")
    for number in numbers:
        parts.store.put(evaluation_layout.query_key(rows.digest(number)), b"%d" % number)
        parts.store.put(evaluation_layout.embedding_key("lite", 1, rows.digest(number)), b"vector")


@pytest.mark.parametrize("first", ["collection", "trash"])
def test_nothing_of_a_purged_image_is_left_in_the_store(parts: Parts, first: str) -> None:
    art = parts.collection()
    parts.add(art, "a", [771, 772, 773])
    parts.add(art, "b", [774])
    parts.maintenance().tuner.maintain(collection="art")
    evaluate(parts, [771, 772, 774])
    if first == "trash":
        parts.delete("art", rows.ids([771, 774]))
        parts.maintenance().compactor.compact(collection="art", job=parts.job("compact", kind="compact"))
    job = parts.purge("art", rows.ids([771, 774]))
    assert outcome(parts, job) == (True, 2, [])
    assert names_in_store(parts, 771) == names_in_store(parts, 774) == []
    assert parts.catalog.tombstones("art") == set()
    parts.assert_indexed(art, [772, 773])
    assert len(rows_of(parts.store, "art", Evaluations(parts.store).ids("art")[0][1])) == 3  # the scores stay
    assert len(names_in_store(parts, 772)) == 7  # and the other images as they were


def test_the_original_of_a_purged_image_stays_where_another_collection_holds_it(parts: Parts) -> None:
    for name in ("art", "other"):
        parts.add(parts.collection(name), "a", [1, 2])
    assert outcome(parts, parts.purge("art", [rows.image_id(1)])) == (True, 1, [])
    assert parts.store.exists(layout.original_key(rows.digest(1)))
    assert live(parts, "other") == set(rows.ids([1, 2]))
    assert outcome(parts, parts.purge("other", [rows.image_id(1)], "second")) == (True, 1, [])
    assert not parts.store.exists(layout.original_key(rows.digest(1)))


def test_a_purge_that_dies_at_any_call_is_finished_by_the_next_attempt(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", [771, 772])
    job = parts.job("purge", kind="delete")
    parts.indexer().deletion.delete(job=job, collection="art", image_ids=[rows.image_id(771)], purge=True)
    evaluate(parts, [771])
    set_aside = layout.set_aside_key(rows.digest(771))
    parts.store.put(set_aside, b"{}")
    sent = parts.jobs.sent.get(job, 0)
    for life in range(1, 400, 4):
        try:
            parts.maintenance([life]).purger.purge(
                job=job, collection="art", image_ids=[rows.image_id(771)], had=sent.arguments["had"] if sent else None
            )
            break
        except Died as death:
            last = death
        for lock in ("lock:*", "deleting:*"):
            for key in parts.redis.scan_iter(match=lock, count=1000):
                parts.redis.delete(key)
    else:
        raise AssertionError("400 calls are not enough for a purge: the last one died here") from last
    assert outcome(parts, job) == (True, 1, [])
    assert not parts.store.exists(set_aside)
    assert names_in_store(parts, 771) == []
    assert live(parts, "art") == {rows.image_id(772)}


@pytest.mark.parametrize("from_trash", [False, True])
def test_a_purge_leaves_query_sets_whose_images_the_collection_does_not_have(parts: Parts, *, from_trash: bool) -> None:
    parts.add(parts.collection(), "a", [771])
    evaluate(parts, [771, 772])  # 772 was uploaded as a query: no collection has it
    evaluate(parts, [773, 774])  # nor these
    sets, before = QuerySets(parts.store, parts.state), names_in_store(parts, 772)
    job, ids = parts.job("purge", kind="delete"), rows.ids([771, 772, 773, 774])
    parts.indexer().deletion.delete(job=job, collection="art", image_ids=ids, purge=True, from_trash=from_trash)
    sent = parts.jobs.sent.get(job, 0)
    assert sent is not None
    assert sent.arguments["had"] == [rows.image_id(771)]
    message = {name: sent.arguments[name] for name in ("image_ids", "had")}
    parts.maintenance().purger.purge(job=job, collection="art", **message)
    assert names_in_store(parts, 772) == before
    assert {query.digest for query in sets.get(sets.kept("kept")).queries} == set(map(rows.digest, [773, 774]))
    assert outcome(parts, job) == (True, 0 if from_trash else 1, [])


def test_a_purge_whose_deletion_died_redacts_what_has_no_row_any_more(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", [771, 772])
    evaluate(parts, [771])
    job, ids = parts.job("purge", kind="delete"), [rows.image_id(771)]
    parts.queue.delete(job=job, collection="art", image_ids=ids, purge=True)
    for life in range(1, 300, 4):
        try:
            parts.indexer([life]).deletion.delete(job=job, collection="art", image_ids=ids, purge=True)
            break
        except Died as death:
            last = death
        for key in parts.redis.scan_iter(match="lock:*", count=1000):
            parts.redis.delete(key)
        parts.maintenance().compactor.compact(collection="art", job=parts.job(f"c{life}", kind="compact"))
    else:
        raise AssertionError("300 calls are not enough for a deletion: the last one died here") from last
    sent = parts.jobs.sent.get(job, 0)
    assert sent is not None
    assert sent.arguments["had"] == ids
    parts.maintenance().purger.purge(job=job, collection="art", image_ids=ids, had=sent.arguments["had"])
    assert names_in_store(parts, 771) == []


def test_a_purge_waits_for_a_batch_that_may_be_written_again(parts: Parts) -> None:
    art = parts.collection()
    parts.job("job-art-a", batches=2)
    parts.write(art, "job-art-a-000001", [1])
    parts.state.indexed_segments.add("art", "job-art-a-000001")
    with pytest.raises(Unavailable, match="not reported"):
        parts.purge("art", [rows.image_id(1)])


def test_a_purge_of_many_ids_asks_the_store_no_more_often_than_one_of_few(parts: Parts) -> None:
    parts.add(parts.collection(), "a", range(100))
    asked: list[str] = []

    class Watched(ObjectStore):
        def list(self, prefix: str) -> Any:
            asked.append(prefix)
            return super().list(prefix)

    watched = Parts(Watched(parts.store._client, parts.store._bucket), parts.redis, parts.queue)
    job = watched.purge("art", [*rows.ids(range(90)), *range(1, 5000)])
    assert outcome(parts, job) == (True, 90, [])
    assert len(asked) < 200
    assert len(list(parts.store.list("images/"))) == 10


@pytest.mark.parametrize(("owner", "named"), [("art", True), ("private", False)])
def test_an_evaluation_that_cannot_be_read_is_named_to_those_of_its_collection_alone(
    parts: Parts, caplog: pytest.LogCaptureFixture, owner: str, *, named: bool
) -> None:
    parts.add(parts.collection(), "a", [771])
    parts.store.put(evaluation_layout.evaluation_key(owner, "0" * 20), b"{}")
    parts.store.put(evaluation_layout.evaluation_rows_key(owner, "0" * 20), b"damaged")
    job = parts.purge("art", [rows.image_id(771)])
    (rejection,) = parts.jobs.outcome(job).rejected
    assert ("cannot be read" in rejection.reason, owner in rejection.reason) == (True, named)
    assert ("of 'private' may name it" in caplog.text) != named


def test_an_evaluation_that_is_written_after_a_purge_does_not_name_the_image(parts: Parts) -> None:
    parts.add(parts.collection(), "a", [771, 772, 773, 774])
    evaluate(parts, [771, 772, 773, 774])
    report, table = Evaluations(parts.store).get("art", "1"), rows_of(parts.store, "art", "1")
    parts.delete("art", [rows.image_id(773)])
    parts.purge("art", [rows.image_id(772)])  # it redacts what there is: the evaluation is written after
    Evaluations(parts.store).put("art", report, parquet(table))
    EvaluationRedactor(parts.clients()).redact_new("art", "1")
    digests = rows_of(parts.store, "art", "1").column("digest").to_pylist()
    assert digests == [rows.digest(771), NO_DIGEST, rows.digest(773), rows.digest(774)]  # one is in the trash
    assert rows_of(parts.store, "art", "1").column("name").to_pylist()[1] == ""
    parts.redis.delete("index:art")
    with pytest.raises(Unavailable):
        EvaluationRedactor(parts.clients()).redact_new("art", "1")
