"""A folder becomes a collection: on the real system, run twice, with broken files, deleted from, and rebuilt."""

import io
import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from services.embedder.embedder import Embedder, Options
from shared.images import DirectDecoder, ImageInfo
from shared.messaging.celery_app import make_app
from shared.messaging.deliveries import Delivery
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import TaskQueue
from shared.messaging.worker import connect_worker
from shared.settings import Settings
from shared.state import Jobs, State, connect
from shared.state.job_ids import new_job_id
from shared.storage import layout
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.stack import Stack

STYLES = {"drawing", "engraving", "iconography", "painting", "sculpture"}


def ingest(stack: Stack, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(stack.artseek("ingest", *arguments, "--json", check=False)))


def search(stack: Stack, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(stack.artseek("search", *arguments, "--json")))


def collection(stack: Stack, name: str) -> dict[str, Any] | None:
    collections = json.loads(stack.artseek("collections", "--json"))["collections"]
    return next((found for found in collections if found["name"] == name), None)


def buckets_with(stack: Stack, name: str, image: int) -> int:
    """Return in how many buckets of a collection an image is, by looking into all of them."""
    settings = stack.settings
    tag = Catalog(ObjectStore.from_settings(settings)).get(name).tag
    client = connect(settings.index_url.get_secret_value())
    prefix = b"b:" + bytes.fromhex(tag)
    keys = [key for key in client.scan_iter(count=5000) if key.startswith(prefix)]
    return sum(bool(client.sismember(key, image)) for key in keys)


def photograph(seed: int, size: tuple[int, int] = (90, 70)) -> bytes:
    """Return a JPEG of smooth random colours, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def test_the_gallery_is_there_with_its_classes(stack: Stack, gallery: Path) -> None:
    files = [path for path in gallery.rglob("*") if path.is_file()]
    found = collection(stack, "default")
    assert found is not None
    assert found["images"] == found["labelled"] == len(files)
    assert set(found["classes"]) == STYLES
    assert found["classes"]["painting"] == len(list((gallery / "painting").iterdir()))


def test_ingesting_again_adds_nothing(stack: Stack, gallery: Path) -> None:
    files = sum(path.is_file() for path in gallery.rglob("*"))
    summary = ingest(stack, str(gallery), "--labels-from-folders")
    assert (summary["added"], summary["duplicates"], summary["rejected"]) == (0, files, [])
    assert collection(stack, "default")["images"] == files  # type: ignore[index]


@pytest.mark.parametrize("mode", ["auto", "exact", "lsh"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_indexed_image_finds_itself_first(stack: Stack, gallery: Path, mode: str, metric: str) -> None:
    for path in sorted(gallery.rglob("*.jpg"))[::25]:
        found = search(stack, str(path), "--mode", mode, "--metric", metric)
        first = found["hits"][0]
        assert first["id"] == layout.image_id(layout.digest_of(path.read_bytes()))
        assert first["label"] == path.parent.name
        assert first["score"] == pytest.approx(1.0, abs=1e-3 if metric == "euclidean" else 1e-5)
        assert found["mode"] == ("lsh" if mode == "lsh" else "exact")
        assert 0 < found["candidates"] <= found["collection_size"]


def test_search_by_id_is_search_by_the_same_file(stack: Stack, gallery: Path) -> None:
    path = sorted((gallery / "sculpture").iterdir())[0]
    by_file = search(stack, str(path), "-k", "7")
    by_id = search(stack, "--id", str(by_file["hits"][0]["id"]), "-k", "7")
    assert [hit["id"] for hit in by_id["hits"]] == [hit["id"] for hit in by_file["hits"]]
    assert by_id["hits"][0]["score"] == pytest.approx(1.0, abs=1e-9)


def test_a_folder_with_broken_files_is_taken_as_far_as_it_goes(stack: Stack, tmp_path: Path) -> None:
    good = photograph(1)
    (tmp_path / "a.jpg").write_bytes(good)
    (tmp_path / "b-again.jpg").write_bytes(good)
    (tmp_path / "c.png").write_bytes(photograph(2))
    (tmp_path / "cut.jpg").write_bytes(photograph(3)[:-200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"<html><body>404 Not Found</body></html>")
    (tmp_path / "document.jpg").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    (tmp_path / ".hidden.jpg").write_bytes(photograph(4))
    holed = photograph(5, (900, 700))
    (tmp_path / "holed.jpg").write_bytes(holed[:9000] + bytes(1024) + holed[10_024:])
    broken = {"cut.jpg", "empty.jpg", "page.jpg", "document.jpg"}
    summary = ingest(stack, str(tmp_path), "--collection", "broken")
    assert (summary["files"], summary["added"], summary["duplicates"]) == (8, 3, 1)
    assert summary["damaged"] == ["holed.jpg"]
    (hit, *_) = search(stack, str(tmp_path / "holed.jpg"), "--collection", "broken", "-k", "3")["hits"]
    assert (hit["name"], hit["flags"]) == ("holed.jpg", ["damaged"])
    assert {Path(rejection["file"]).name for rejection in summary["rejected"]} == broken
    codes = {Path(rejection["file"]).name: rejection["code"] for rejection in summary["rejected"]}
    assert codes["empty.jpg"] == "empty"
    assert codes["cut.jpg"] == "truncated"
    assert all(rejection["reason"] for rejection in summary["rejected"])
    # What was refused leaves nothing behind.
    store = ObjectStore.from_settings(stack.settings)
    assert not store.exists(layout.original_key(layout.digest_of((tmp_path / "cut.jpg").read_bytes())))
    again = ingest(stack, str(tmp_path), "--collection", "broken")
    assert (again["added"], again["duplicates"], len(again["rejected"])) == (0, 4, 4)


def test_files_that_were_moved_to_another_folder_have_its_label(stack: Stack, tmp_path: Path) -> None:
    for seed in range(6):
        path = tmp_path / "etching" / f"{seed}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photograph(700 + seed))
    arguments = (str(tmp_path), "--collection", "moved", "--labels-from-folders")
    assert ingest(stack, *arguments)["added"] == 6
    (tmp_path / "oil").mkdir()
    for seed in range(2):
        (tmp_path / "etching" / f"{seed}.jpg").rename(tmp_path / "oil" / f"{seed}.jpg")
    kept = ingest(stack, *arguments, "--keep-labels")
    assert (kept["duplicates"], kept["relabelled"], kept["labels_kept"]) == (6, 0, 2)
    assert collection(stack, "moved")["classes"] == {"etching": 6}  # type: ignore[index]
    moved = ingest(stack, *arguments)
    assert (moved["duplicates"], moved["relabelled"], moved["labels_kept"]) == (6, 2, 0)
    assert collection(stack, "moved")["classes"] == {"etching": 4, "oil": 2}  # type: ignore[index]
    found = search(stack, str(tmp_path / "oil" / "0.jpg"), "--collection", "moved")["hits"]
    assert (len(found), found[0]["label"]) == (6, "oil")
    assert ingest(stack, *arguments)["relabelled"] == 0


def test_deleting_removes_an_image_from_results_buckets_and_store_and_it_may_come_back(
    stack: Stack, tmp_path: Path
) -> None:
    for seed in range(12):
        (tmp_path / f"{seed:02}.jpg").write_bytes(photograph(100 + seed))
    ingest(stack, str(tmp_path), "--collection", "deletions")
    victim = tmp_path / "05.jpg"
    digest = layout.digest_of(victim.read_bytes())
    image = layout.image_id(digest)
    store = ObjectStore.from_settings(stack.settings)
    assert buckets_with(stack, "deletions", image) > 0
    assert store.exists(layout.original_key(digest))

    answer = json.loads(stack.artseek("delete", str(image), "--collection", "deletions", "--json"))
    assert answer["deleted"] == 1
    assert buckets_with(stack, "deletions", image) == 0
    assert store.exists(layout.original_key(digest))  # the trash holds it
    for mode in ("exact", "lsh"):
        hits = search(stack, str(victim), "--collection", "deletions", "--mode", mode, "-k", "20")["hits"]
        assert image not in {hit["id"] for hit in hits}
    assert collection(stack, "deletions")["images"] == 11  # type: ignore[index]
    stack.artseek("rebuild", "--collection", "deletions")  # the store remembers too
    assert buckets_with(stack, "deletions", image) == 0
    restored = json.loads(stack.artseek("trash", "restore", str(image), "--collection", "deletions", "--json"))
    assert restored == {"collection": "deletions", "restored": 1, "failed": []}
    stack.artseek("delete", str(image), "--collection", "deletions", "--purge")
    assert not store.exists(layout.original_key(digest))

    back = ingest(stack, str(tmp_path), "--collection", "deletions")
    assert (back["added"], back["duplicates"]) == (1, 11)
    assert search(stack, str(victim), "--collection", "deletions")["hits"][0]["id"] == image


def test_compacting_merges_segments_and_changes_no_answer(stack: Stack, tmp_path: Path) -> None:
    for part in range(3):
        for seed in range(4):
            (tmp_path / f"{part}-{seed}.jpg").write_bytes(photograph(500 + 10 * part + seed))
        ingest(stack, str(tmp_path), "--collection", "compact")
    victim = layout.image_id(layout.digest_of(photograph(511)))
    stack.artseek("delete", str(victim), "--collection", "compact")
    query = [str(tmp_path / "0-1.jpg"), "--collection", "compact", "-k", "20"]
    before = [search(stack, *query, "--mode", mode)["hits"] for mode in ("exact", "lsh")]
    answer = json.loads(stack.artseek("compact", "--collection", "compact", "--json"))
    assert answer == {"compacted": {"compact": {"segments_before": 3, "segments_after": 1, "rows_dropped": 1}}}
    assert [search(stack, *query, "--mode", mode)["hits"] for mode in ("exact", "lsh")] == before
    assert len(before[0]) == 11
    again = ingest(stack, str(tmp_path), "--collection", "compact")
    assert (again["added"], again["duplicates"]) == (1, 11)
    assert len(search(stack, *query, "--mode", "exact")["hits"]) == 12


def test_an_original_that_another_collection_holds_survives_a_deletion(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "shared.jpg").write_bytes(photograph(200))
    digest = layout.digest_of(photograph(200))
    for name in ("first", "second"):
        assert ingest(stack, str(tmp_path), "--collection", name)["added"] == 1
    stack.artseek("delete", str(layout.image_id(digest)), "--collection", "first")
    assert "shared.jpg" in stack.artseek("trash", "list", "--collection", "first")
    emptied = json.loads(stack.artseek("trash", "empty", "--collection", "first", "--yes", "--json"))
    assert emptied["purged"] == 1
    assert ObjectStore.from_settings(stack.settings).exists(layout.original_key(digest))
    stack.artseek("delete", "--whole-collection", "--collection", "second")
    assert not ObjectStore.from_settings(stack.settings).exists(layout.original_key(digest))
    assert collection(stack, "second") is None


def test_an_emptied_index_is_rebuilt_from_the_store_ids_and_all(stack: Stack, gallery: Path) -> None:
    path = sorted((gallery / "engraving").iterdir())[0]
    before = search(stack, str(path), "--mode", "lsh")
    client = connect(stack.settings.index_url.get_secret_value())
    held = {key: client.smembers(key) for key in client.scan_iter(match="b:*")}
    client.flushall()
    rebuilt = json.loads(stack.artseek("rebuild", "--json"))["rebuilt"]
    assert rebuilt["default"] == before["collection_size"]
    assert search(stack, str(path), "--mode", "lsh")["hits"] == before["hits"]
    again = {key: client.smembers(key) for key in client.scan_iter(match="b:*")}
    assert held  # and what was in a bucket then is in it now; deleted images need not be
    for key, members in again.items():
        assert members <= held[key] or not held.get(key)
    summary = ingest(stack, str(gallery), "--labels-from-folders")
    assert (summary["added"], len(summary["rejected"])) == (0, 0)


def test_an_image_that_kills_its_worker_is_set_aside_and_the_others_are_added(stack: Stack) -> None:
    """The decoder is made to kill its process at one image, as a fault in a C library would."""
    settings = stack.settings
    store, index = ObjectStore.from_settings(settings), connect(settings.index_url.get_secret_value())
    state, jobs = State.of(index), Jobs(index)
    pictures = [photograph(300 + seed) for seed in range(5)]
    deadly = layout.digest_of(pictures[2])
    items = [
        BatchImage(layout.digest_of(data), f"{place}.jpg", "odd", len(data)) for place, data in enumerate(pictures)
    ]
    for item, data in zip(items, pictures, strict=True):
        store.put(layout.original_key(item.digest), data)
    job = new_job_id()
    jobs.create(job, "deadly")
    jobs.extend(job, batches=1, total=5, closed=True)

    fork = multiprocessing.get_context("spawn")
    exits = []
    for number in range(6):
        delivery = Delivery(str(number), lost=str(number - 1))  # as the worker says whose process died
        process = fork.Process(target=_embed_with_deadly_decoder, args=(settings, job, items, deadly, delivery))
        process.start()
        process.join(PATIENCE_S)
        exits.append(process.exitcode)
        if process.exitcode == 0:
            break
    assert exits == [9, 9, 9, 0]
    _until_done(jobs, job)
    done = jobs.get(job)
    assert (done.added, done.counts.duplicates) == (4, 0)
    assert [(rejection.name, rejection.code) for rejection in jobs.outcome(job).rejected] == [("2.jpg", "set-aside")]
    assert store.exists(layout.set_aside_key(deadly))
    assert state.claims.count("deadly") == 4


def _embed_with_deadly_decoder(
    settings: Settings, job: str, items: list[BatchImage], deadly: str, delivery: Delivery
) -> None:
    class DeadlyDecoder(DirectDecoder):
        def decode(self, data: Any, **options: Any) -> tuple[npt.NDArray[np.uint8], ImageInfo]:
            if layout.digest_of(data) == deadly:
                os._exit(9)
            return super().decode(data, **options)

    Embedder(
        connect_worker(settings, make_app(settings, name="test")),
        options=Options(model=(settings.model, settings.model_version), decoder=DeadlyDecoder(), program="test"),
    ).embed(job=job, batch=0, collection="deadly", items=items, delivery=delivery)


def _until_done(jobs: Jobs, job: str) -> None:
    eventually(lambda: jobs.get(job), until=lambda seen: seen.done)


def test_a_batch_that_runs_twice_counts_once(stack: Stack, tmp_path: Path) -> None:
    """The queue may deliver a message twice, also after its work was done."""
    settings = stack.settings
    store, index = ObjectStore.from_settings(settings), connect(settings.index_url.get_secret_value())
    jobs, queue = Jobs(index), TaskQueue(make_app(settings, name="test"))
    pictures = [photograph(400 + seed) for seed in range(3)]
    items = [BatchImage(layout.digest_of(data), f"{place}.jpg", None, len(data)) for place, data in enumerate(pictures)]
    for item, data in zip(items, pictures, strict=True):
        store.put(layout.original_key(item.digest), data)
    job = new_job_id()
    jobs.create(job, "twice")
    jobs.extend(job, batches=1, total=3, closed=True)
    for _ in range(3):
        queue.embed(job=job, batch=0, collection="twice", items=items)
    _until_done(jobs, job)
    queue.embed(job=job, batch=0, collection="twice", items=items)
    for path, data in zip("abc", pictures, strict=True):
        (tmp_path / f"{path}.jpg").write_bytes(data)
    assert ingest(stack, str(tmp_path), "--collection", "twice")["duplicates"] == 3  # behind them in the queue
    assert jobs.get(job).added == 3
    assert collection(stack, "twice")["images"] == 3  # type: ignore[index]
    assert len(Catalog(store).segments("twice")) == 1


def test_wrong_use_is_named(stack: Stack, tmp_path: Path) -> None:
    assert "no file or folder" in _error(stack, "ingest", str(tmp_path / "nowhere"))
    assert "Not A Name" in _error(stack, "ingest", str(tmp_path), "--collection", "Not A Name")
    assert "there is no collection 'nothere'" in _error(stack, "search", "--id", "1", "--collection", "nothere")
    assert "has no image 12345" in _error(stack, "search", "--id", "12345")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    assert _error(stack, "search", str(text))
    shutil.rmtree(tmp_path)


def _error(stack: Stack, *arguments: str) -> str:
    status, _, told = stack.run(*arguments, COLUMNS="500")
    assert status in {1, 2}
    assert "Traceback" not in told
    return told
