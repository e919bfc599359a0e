"""What comes back from the trash, what stays there, and when it is emptied."""

from typing import Any

import numpy as np
import pytest

from services.embedder.embedder import Embedder, Options
from services.indexer import deletion
from services.maintenance import trash_cleaning
from shared.errors import Invalid, NotFound, Unavailable
from shared.images import DirectDecoder, ImageInfo
from shared.index.restoring import present_images, restore
from shared.rpc.serving.client import ModelSignature
from shared.storage import layout, segments
from shared.storage.trash import Trash
from shared.verification.verifier import Extent, Verifier
from tests.support import rows
from tests.support.indexing import DIM, Parts
from tests.support.trash import in_trash, live, outcome


class Model:
    """A model server whose embeddings are those of `rows`, or one that takes nothing."""

    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, 32, DIM)

    def embed(self, pixels: Any) -> Any:
        return np.ones((len(pixels), DIM), np.float32)


def restored(parts: Parts, image_id: int, monkeypatch: pytest.MonkeyPatch, *, sound: bool = True) -> Any:
    """Restore an image by the real embedder and indexer, whose decoder takes every original; returns the job."""
    sent: list[dict[str, Any]] = []
    clients = parts.clients()
    monkeypatch.setattr(clients.queue, "embed", lambda **message: sent.append(message))
    job = restore(clients, "art", image_id)
    indexed: list[dict[str, Any]] = []
    monkeypatch.setattr(clients.queue, "index", lambda **message: indexed.append(message))
    if sound:
        entry = rows.entry(1)
        info = ImageInfo("jpeg", entry.media_type, entry.width, entry.height)
        pixels = np.zeros((32, 32, 3), np.uint8), info
        monkeypatch.setattr(DirectDecoder, "decode", lambda *_, **__: pixels)
    object.__setattr__(clients, "connect_model", lambda *_: Model())
    embedder = Embedder(clients, Options(model=("lite", 1), decoder=DirectDecoder(), program="test"))
    embedder.embed(**sent[0])
    for message in indexed:
        parts.indexer().segments.index(**message)
    return parts.jobs.get(job)


def test_an_image_comes_back_from_the_trash_with_its_name_label_and_date(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.add(parts.collection(), "a", [1, 2])
    parts.delete("art", rows.ids([1, 2]))
    assert len(in_trash(parts, "art")) == 2
    job = restored(parts, rows.image_id(1), monkeypatch)
    assert (job.done, job.added, job.kind) == (True, 1, "restore")
    assert live(parts, "art") == {rows.image_id(1)}
    assert in_trash(parts, "art") == [rows.image_id(2)]
    batch = segments.unpack(parts.store.get(layout.segment_key("art", f"{job.id}-000000")))
    entry, before = segments.entry_of(batch, 0), rows.entry(1)
    assert (entry.name, entry.label, entry.added) == (before.name, before.label, before.added)
    with pytest.raises(NotFound, match="again"):
        restore(parts.clients(), "art", rows.image_id(1))
    assert not list(parts.redis.scan_iter(match="pin:*", count=1000))
    parts.maintenance().trash_cleaner.clean()  # its entry goes, its original stays
    assert Trash(parts.store).digests("art") == [rows.digest(2)]
    assert parts.store.exists(layout.original_key(rows.digest(1)))


def test_an_image_that_cannot_be_restored_stays_in_the_trash(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.add(parts.collection(), "a", [1, 2])
    parts.delete("art", rows.ids([1, 2]))
    job = restored(parts, rows.image_id(1), monkeypatch, sound=False)
    assert (job.done, job.added, sum(job.counts.rejected.values())) == (True, 0, 1)
    parts.maintenance().trash_cleaner.clean()
    assert rows.image_id(1) in in_trash(parts, "art")
    assert parts.store.exists(layout.original_key(rows.digest(1)))
    parts.store.delete([layout.original_key(rows.digest(2))])
    with pytest.raises(Invalid, match="add the same file again"):
        restore(parts.clients(), "art", rows.image_id(2))
    with pytest.raises(NotFound):
        restore(parts.clients(), "art", 12345)


def test_the_trash_is_emptied_after_its_days_and_keeps_what_others_hold(parts: Parts) -> None:
    parts.add(parts.collection(), "a", [1, 2, 3])
    parts.add(parts.collection("other"), "a", [2])
    parts.delete("art", rows.ids([1, 2, 3]))
    parts.maintenance(trash_days=1).trash_cleaner.clean()
    assert len(in_trash(parts, "art")) == 3
    parts.state.pins.pin(rows.digest(3), "a job that restores it")
    for _ in range(2):  # it may run twice
        parts.maintenance(trash_days=0).trash_cleaner.clean()
        assert in_trash(parts, "art") == [rows.image_id(3)]
    kept = [parts.store.exists(layout.original_key(rows.digest(number))) for number in (1, 2, 3)]
    assert kept == [False, True, True]


def test_dropping_a_collection_empties_its_trash(parts: Parts) -> None:
    parts.add(parts.collection(), "a", [1, 2])
    parts.add(parts.collection("other"), "a", [2])
    parts.delete("art", rows.ids([1, 2]))
    parts.maintenance().dropper.drop(job=parts.job(kind="drop"), collection="art")
    assert Trash(parts.store).digests("art") == []
    assert [item.key for item in parts.store.list("images/")] == [layout.original_key(rows.digest(2))]


def test_objects_of_others_beside_the_trash_entries_and_tombstones_are_passed_over(parts: Parts) -> None:
    parts.add(parts.collection(), "a", range(4))
    for key in ("trash/README", "trash/art/notes.txt", "trash/art/a/b.json", "tombstones/art/x", "tombstones/art/a/x"):
        parts.store.put(key, b"by hand")
    parts.delete("art", rows.ids([0]))
    assert in_trash(parts, "art") == rows.ids([0])
    assert Trash(parts.store).collections() == ["art"]
    assert live(parts, "art") == set(rows.ids(range(1, 4)))
    assert Verifier(parts.clients(), query=None).verify(Extent()).ok


def test_no_image_is_deleted_again_while_the_entry_of_a_restored_one_is_removed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry that goes would be the one that the deletion has just written."""
    art = parts.collection()
    parts.add(art, "a", [1, 2])
    parts.delete("art", rows.ids([1]))
    parts.add(art, "b", [1])  # restored
    refused: list[str] = []

    def deleting(*arguments: Any) -> set[str]:
        present = present_images(*arguments)
        try:
            parts.delete("art", rows.ids([1]), job="again")
        except Unavailable as error:
            refused.append(str(error))
        return present

    monkeypatch.setattr(deletion, "_WAIT_S", 0.0)
    monkeypatch.setattr(trash_cleaning, "present_images", deleting)
    parts.maintenance(trash_days=1).trash_cleaner.clean()
    assert len(refused) == 1
    assert in_trash(parts, "art") == []
    parts.delete("art", rows.ids([1]), job="again")
    assert in_trash(parts, "art") == rows.ids([1])


def test_an_image_that_was_restored_while_the_trash_is_emptied_stays(parts: Parts) -> None:
    parts.add(parts.collection(), "a", range(4))
    parts.delete("art", rows.ids([1, 2]))
    chosen = in_trash(parts, "art")
    parts.add(parts.catalog.get("art"), "b", [2])  # restored since
    parts.delete("art", rows.ids([3]), job="later")
    parts.job("empty", kind="delete")
    parts.indexer().deletion.delete(job="empty", collection="art", image_ids=chosen, from_trash=True)
    parts.maintenance().purger.purge(job="empty", collection="art", image_ids=[rows.image_id(1)])  # as it was sent
    assert outcome(parts, "empty") == (True, 1, [])
    assert live(parts, "art") == set(rows.ids([0, 2]))
    assert in_trash(parts, "art") == rows.ids([3])
    originals = {item.key for item in parts.store.list(layout.ORIGINALS)}
    assert originals == {layout.original_key(rows.digest(number)) for number in (0, 2, 3)}
