"""Originals that all collections share, on real servers: nothing is deleted that something holds, in any order."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.embedder.embedder import Embedder, Options
from shared.errors import IndexLost, Locked, StoreUnavailable
from shared.images import DirectDecoder
from shared.index.originals import Kept, Originals
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.messages import BatchImage
from shared.messaging.worker import WorkerClients
from shared.rpc.serving.client import ModelSignature
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.storage.trash import Trash
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.servers import Servers


class Model:
    """A model server that is never asked for an embedding: no original here is an image."""

    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, 32, DIM)

    def embed(self, pixels: Any) -> Any:
        return np.zeros((len(pixels), DIM), np.float32)


@pytest.fixture
def parts(servers: Servers) -> Parts:
    made = parts_of(servers.settings)
    made.connect_model = lambda *_: Model()  # type: ignore[assignment]
    return made


def embedder(parts: Parts) -> Embedder:
    return Embedder(parts.clients(), Options(model=("lite", 1), decoder=DirectDecoder(), program="test"))


def original(number: int) -> str:
    return layout.original_key(rows.digest(number))


def data(number: int) -> bytes:
    """Return the bytes whose digest is that of `rows`; they are no image."""
    return str(number).encode()


def item(number: int) -> BatchImage:
    return BatchImage(rows.digest(number), f"{number}.jpg", None, len(data(number)))


def take_in(clients: WorkerClients, collection: str, numbers: Sequence[int], patience_s: float = 60.0) -> Intake:
    """Hand images to the intake; returns it when all are sent."""
    with Intake(collection, clients, IntakeOptions(batch_size=32, threads=1, patience_s=patience_s)) as intake:
        for number in numbers:
            intake.add(f"{number}.jpg", None, lambda number=number: data(number))  # type: ignore[misc]
    return intake


def delete(parts: Parts, collection: str, numbers: Sequence[int], clients: WorkerClients | None = None) -> Any:
    """Delete the originals of images that a collection gives up."""
    originals = Originals(clients or parts.clients(), parts.queue)
    return originals.delete_unheld([rows.digest(number) for number in numbers], leaving=collection)


def hooked(parts: Parts, method: str, before: Callable[[], None]) -> WorkerClients:
    """Return clients whose object store calls something before a call of a method that concerns an original."""

    class Hooked(ObjectStore):
        def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
            if method == "put" and key.startswith("images/"):
                before()
            super().put(key, data, media_type)

        def delete(self, keys: Any) -> None:
            wanted = list(keys)
            if method == "delete" and any(key.startswith("images/") for key in wanted):
                before()
            super().delete(wanted)

    return replace(parts.clients(), store=Hooked(parts.store._client, parts.store._bucket))


def pins(parts: Parts) -> set[bytes]:
    return {bytes(key) for key in parts.redis.scan_iter(match="pin:*", count=1000)}


def test_an_image_that_one_collection_rejects_keeps_the_original_that_another_holds(parts: Parts) -> None:
    """The limits were lowered meanwhile; an image that nobody else holds leaves nothing behind."""
    parts.add(parts.collection("ok"), "a", [1, 2])
    parts.collection("colleague")
    intake = take_in(parts.clients(), "colleague", [1, 2, 3])
    embedder(parts).embed(job=intake.job, batch=0, collection="colleague", items=[item(1), item(2), item(3)])
    done = intake.result()
    assert (done.done, sum(done.counts.rejected.values())) == (True, 3)
    assert [parts.store.exists(original(number)) for number in (1, 2, 3)] == [True, True, False]
    assert pins(parts) == set()


@pytest.mark.parametrize("holder", ["claim", "row", "trash", "pin", "manifest", "segment", "restore"])
def test_an_original_stays_that_anything_holds_or_may_hold(parts: Parts, holder: str) -> None:
    parts.add(parts.collection("art"), "a", [1])
    other = parts.collection("other")
    if holder in {"claim", "row", "manifest", "segment"}:
        parts.add(other, "a", [1])
    if holder == "claim":
        parts.store.delete([layout.segment_key("other", "a")])
    if holder in {"row", "segment"}:  # the claim was lost
        parts.redis.hdel("claims:other", str(rows.image_id(1)))
    if holder == "segment":
        parts.store.put(layout.segment_key("other", "a"), b"damaged")
    if holder == "manifest":
        parts.store.put(layout.manifest_key("other"), b'{"from": "the future"}')
    if holder == "trash":
        parts.store.put(layout.trash_key("other", rows.digest(1)), b"{}")
    if holder == "pin":
        parts.state.pins.pin(rows.digest(1), "an upload")
    if holder == "restore":
        parts.store.put(layout.RESTORING, b"{}")
    kept = delete(parts, "art", [1])[rows.digest(1)]
    assert kept.certain == (holder not in {"manifest", "segment", "restore"})
    reason = kept.text
    expected = {"pin": "an upload", "trash": "in the trash"} | dict.fromkeys(
        ("manifest", "segment", "restore"), "may hold it"
    )
    assert expected.get(holder, "the collection 'other' holds it") in reason
    assert parts.store.exists(original(1))
    assert not parts.state.pins.is_marked(rows.digest(1))


def test_an_original_goes_whose_row_another_collection_has_deleted(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1])
    parts.add(parts.collection("other"), "a", [1, 2])
    parts.delete("other", [rows.image_id(1), rows.image_id(2)])
    assert rows.digest(1) in delete(parts, "art", [1])
    Trash(parts.store).remove("other", [rows.digest(1)])
    assert delete(parts, "art", [1]) == {}
    assert not parts.store.exists(original(1))


# One collection deletes while another takes in


def test_an_upload_that_begins_while_the_original_is_deleted_puts_it_back(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1])
    parts.collection("other")
    with ThreadPoolExecutor(1) as pool:
        uploads = []

        def upload() -> None:
            """The upload pins, and waits for the deletion, which has looked already."""
            uploads.append(pool.submit(take_in, parts.clients(), "other", [1]))
            eventually(lambda: pins(parts))

        assert delete(parts, "art", [1], hooked(parts, "delete", upload)) == {}
        uploads[0].result()
    assert parts.store.get(original(1)) == data(1)


def test_a_deletion_that_begins_while_an_upload_stores_the_original_keeps_it(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1])
    parts.collection("other")
    kept: list[dict[str, Kept]] = []
    take_in(hooked(parts, "put", lambda: kept.append(delete(parts, "art", [1]))), "other", [1])
    assert kept == [{rows.digest(1): Kept("an upload of it is on its way")}]
    assert parts.store.get(original(1)) == data(1)


def test_a_deletion_that_was_held_up_until_its_mark_ran_out_looks_again(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1])
    other = parts.collection("other")
    stalled = parts.clients()
    find = stalled.state.claims.holders
    calls: list[str] = []

    def holders(set_name: str, image_ids: Sequence[int]) -> Any:
        found = find(set_name, image_ids)
        calls.append(set_name)
        if len(calls) == 1:  # it is stopped here; meanwhile an upload is stored, embedded and reported
            parts.redis.delete(f"deleting:{rows.digest(1)}")
            parts.add(other, "a", [1])
        return found

    stalled.state.claims.holders = holders  # type: ignore[method-assign]
    assert "holds it" in delete(parts, "art", [1], stalled)[rows.digest(1)].text
    assert parts.store.exists(original(1))


def test_the_mark_of_a_dead_deletion_runs_out_and_until_then_others_wait(parts: Parts) -> None:
    parts.collection("other")
    digest = rows.digest(1)
    assert parts.state.pins.mark([digest], "of one that died", seconds=60.0) == []
    with pytest.raises(Locked):
        delete(parts, "other", [1])
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(take_in, parts.clients(), "other", [1])
        upload.add_done_callback(lambda _: ended.set())
        eventually(lambda: pins(parts))
        assert not ended.is_set()
        assert not parts.store.exists(original(1))
        assert 0 < parts.redis.pttl(f"deleting:{digest}") <= 60_000
        parts.redis.pexpire(f"deleting:{digest}", 1)
        upload.result()
    assert parts.store.exists(original(1))


def test_the_mark_stays_where_the_store_may_yet_carry_out_a_deletion(parts: Parts) -> None:
    parts.collection("art")

    def fail() -> None:
        raise StoreUnavailable("it took too long to answer")

    with pytest.raises(StoreUnavailable):
        delete(parts, "art", [1], hooked(parts, "delete", fail))
    assert parts.state.pins.is_marked(rows.digest(1))


# Adding again


def test_adding_an_image_whose_original_is_missing_puts_it_back(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1, 2])
    parts.store.delete([original(1)])
    intake = take_in(parts.clients(), "art", [1, 2, 2])
    done = intake.result()
    assert (done.done, done.added, done.counts.duplicates, intake.restored) == (True, 0, 3, 1)
    assert parts.store.get(original(1)) == data(1)
    assert pins(parts) == set()


def test_a_lost_index_stops_a_deletion_until_it_is_rebuilt(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1])
    parts.add(parts.collection("other"), "a", [1])
    parts.redis.flushall()
    with pytest.raises(IndexLost):
        delete(parts, "art", [1])
    assert not parts.state.pins.is_marked(rows.digest(1))


# Orphans


def test_originals_that_nothing_holds_are_collected_after_the_grace_time(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1, 2])
    parts.add(parts.collection("other"), "a", [3])
    parts.redis.hdel("claims:other", str(rows.image_id(3)))  # a lost claim: its row holds it
    parts.delete("art", [rows.image_id(2)])  # its trash entry holds it
    for number in (4, 5):
        parts.store.put(original(number), data(number))
    parts.state.pins.pin(rows.digest(4), "an upload")
    assert parts.maintenance(orphan_hours=1).orphan_collector.collect() == 0
    assert parts.maintenance(orphan_hours=0).orphan_collector.collect() == 1
    assert parts.maintenance(orphan_hours=0).orphan_collector.collect() == 0
    assert [parts.store.exists(original(number)) for number in range(1, 6)] == [True, True, True, True, False]


def test_no_original_is_collected_while_a_collection_cannot_be_read(parts: Parts) -> None:
    parts.add(parts.collection("art"), "a", [1])
    parts.store.put(original(5), data(5))
    parts.store.put(layout.manifest_key("newer"), b'{"format": 99}')
    assert parts.maintenance(orphan_hours=0).orphan_collector.collect() == 0
    parts.redis.flushall()
    with pytest.raises(IndexLost):
        parts.maintenance(orphan_hours=0).orphan_collector.collect()
    assert parts.store.exists(original(1))
