"""Originals that stay where their owner has them, on real servers: read there, and never anything else."""

import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder.embedder import Embedder, Options
from services.producer.ingest import Summary, ingest
from services.producer.linking import relink
from services.web.thumbnails import Thumbnails
from shared.backup.backing_up import back_up
from shared.backup.folder_target import FolderTarget
from shared.backup.repository import Repository
from shared.backup.restoring import Restorer
from shared.errors import ObjectNotFound
from shared.folders import walk
from shared.images import DirectDecoder
from shared.index.derivatives import Derivatives
from shared.index.restoring import restore
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED_BATCH
from shared.rpc.serving.client import ModelSignature
from shared.state.outcomes import Outcome
from shared.storage import layout, original_files
from shared.storage.documents import Documents
from shared.storage.original_files import FoundLink, LinkChanged, LinkMissing, OriginalFiles
from shared.verification import verifier
from shared.verification.repair import Repairer
from shared.verification.verifier import QUICK, Extent, Verifier
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.pictures import quadrants, saved
from tests.support.servers import Servers

SMALL, LARGE = saved(quadrants(60, 40), "PNG"), saved(quadrants(1700, 40), "PNG")
DIGEST, LARGE_DIGEST = layout.digest_of(SMALL), layout.digest_of(LARGE)
DECODER = DirectDecoder()


class Model:
    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, 32, DIM)

    def embed(self, pixels: Any) -> Any:
        return np.ones((len(pixels), DIM), np.float32) * pixels[:, 4, 4, :1]


class Owner:
    """A folder of originals, and a system that links to them."""

    def __init__(self, parts: Parts, root: Path) -> None:
        self.parts, self.root = parts, root
        self.originals = OriginalFiles(parts.store)

    def ingest(self, *paths: Path, link: bool = True) -> Summary:
        """Add files as `artseek ingest` does, and have all workers do their part."""
        parts = self.parts
        sources = list(walk(paths or [self.root], labels_from_folders=False))
        intake = Intake("art", parts.clients(), IntakeOptions(batch_size=32, threads=1, link=link))
        intake.wait = lambda **_: self.work_off(intake.job)  # type: ignore[method-assign]
        roots = parts.store.link_roots if link else None
        return ingest(sources, intake=intake, max_bytes=10**9, on_progress=lambda _: None, roots=roots)

    def work_off(self, job: str) -> None:
        """Do what was sent for a job."""
        embedder = Embedder(self.parts.clients(), Options(model=("lite", 1), decoder=DECODER, program="test"))
        while True:
            left = self.parts.jobs.unreported(self.parts.jobs.get(job))
            if not left:
                return
            for batch in left:
                message = self.parts.jobs.sent.get(job, batch)
                assert message is not None
                fields = {name: value for name, value in message.arguments.items() if name != "format"}
                if message.task == EMBED_BATCH:
                    fields["items"] = [BatchImage(**item) for item in fields["items"]]
                    embedder.embed(**fields)
                else:
                    fields["outcome"] = Outcome.from_json(fields["outcome"])
                    self.parts.indexer().segments.index(**fields)

    def kept(self) -> set[str]:
        """Return the keys of all originals and links."""
        return {item.key for prefix in (layout.ORIGINALS, layout.LINKS) for item in self.parts.store.list(prefix)}

    def found(self, extent: Extent | None = None) -> dict[str, int]:
        """Return what a verification finds."""
        report = Verifier(self.parts.clients(), query=None).verify(extent or Extent())
        return {finding.kind: len(finding.keys) for finding in report.findings}

    def repair(self) -> dict[str, bool]:
        """Verify with `--repair`, which reads no original again; returns which kinds were mended."""
        verifier = Verifier(self.parts.clients(), query=None)
        report = verifier.verify(Extent(sample=None))
        lost = Repairer(self.parts.clients(), run_job=lambda *_: None, replica_folder=None).repair(report)
        after = report.after_repair(verifier.verify(Extent(sample=0)), lost)
        return {finding.kind: finding.repaired for finding in after.findings}


@pytest.fixture
def owner(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owner:
    monkeypatch.setattr(verifier, "_PAUSE_S", 0.0)
    root = tmp_path / "masters"
    root.mkdir()
    (root / "small.png").write_bytes(SMALL)
    (root / "large.png").write_bytes(LARGE)
    parts = parts_of(servers.settings.model_copy(update={"link_roots": str(root)}))
    parts.connect_model = lambda *_: Model()  # type: ignore[assignment]
    parts.collection("art")
    return Owner(parts, root)


def test_linked_originals_serve_like_others_from_the_first_day_to_the_last(owner: Owner, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(saved(quadrants(20, 20), "PNG"))
    (owner.root / "escape.png").symlink_to(outside)
    summary = owner.ingest()
    assert summary.to_json()["added"] == 2
    assert [rejected.code for rejected in summary.outcome.rejected] == ["not-linked"]
    assert owner.kept() == {layout.link_key(DIGEST), layout.link_key(LARGE_DIGEST)}
    store = owner.parts.store
    assert owner.originals.get(DIGEST) == SMALL
    assert b"".join(owner.originals.stream(LARGE_DIGEST)) == LARGE
    assert Thumbnails(store, DECODER).make(DIGEST, size=len(SMALL))
    store.delete([layout.derivative_key(LARGE_DIGEST)])
    assert Derivatives(store, DECODER).of_original(LARGE_DIGEST, len(LARGE)).info.width == 1700
    assert owner.found() == {}
    assert owner.found(QUICK) == {}
    # Neither a second ingest copies it nor the collecting of orphans deletes it.
    again = owner.ingest(owner.root / "small.png")
    assert (again.job.counts.duplicates, again.restored) == (1, 0)
    assert owner.parts.maintenance(orphan_hours=0).orphan_collector.collect() == 0
    assert len(owner.kept()) == 2
    # Into the trash, back, and away: the owner's files stay.
    image_id = layout.image_id(DIGEST)
    owner.parts.delete("art", [image_id])
    assert owner.found() == {}
    owner.work_off(restore(owner.parts.clients(), "art", image_id))
    assert owner.found() == {}
    owner.parts.purge("art", [image_id, layout.image_id(LARGE_DIGEST)])
    assert owner.kept() == set()
    assert (owner.root / "small.png").read_bytes() == SMALL
    assert (owner.root / "large.png").read_bytes() == LARGE
    with pytest.raises(ObjectNotFound):
        owner.originals.get(DIGEST)


def test_another_content_is_never_served_and_another_path_is_taken(owner: Owner) -> None:
    path = owner.root / "small.png"
    owner.ingest(path)
    before = path.stat()
    other = bytearray(SMALL)
    other[-1] ^= 1
    path.write_bytes(other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    for read in (owner.originals.get, lambda digest: list(owner.originals.stream(digest))):
        with pytest.raises(LinkChanged, match="has changed"):
            read(DIGEST)
    with pytest.raises(LinkChanged):
        Thumbnails(owner.parts.store, DECODER).make(DIGEST, size=len(SMALL))
    assert owner.found(Extent(sample=None)) == {"link-changed": 1}
    os.utime(path)
    assert owner.found() == {"link-changed": 1}
    assert owner.originals.flags(DIGEST) == ["link-changed"]
    assert owner.repair() == {"link-changed": False}
    # What the embedder says of it, as a change of model would have it.
    embedder = Embedder(owner.parts.clients(), Options(model=("lite", 1), decoder=DECODER, program="test"))
    attempt: Any = None
    refused = embedder._decoding.decode_one(attempt, BatchImage(DIGEST, "small.png", None, len(SMALL)), size=32)
    assert getattr(refused, "code", None) == "link-changed"
    # A copy of it is found elsewhere: it is read there, and a repair has it be the first.
    shutil.copyfile(path, owner.root / "changed.png")
    (owner.root / "copy.png").write_bytes(SMALL)
    copies = [(DIGEST, owner.root / "changed.png"), (DIGEST, owner.root / "copy.png")]
    relink(owner.parts.store, owner.parts.state, copies, also_missing=False)
    assert owner.originals.get(DIGEST) == SMALL
    assert owner.originals.flags(DIGEST) == []
    (owner.root / "copy.png").rename(owner.root / "elsewhere.png")
    assert owner.found() == {"link-missing": 1}
    assert owner.originals.flags(DIGEST) == ["link-changed"]
    path.write_bytes(SMALL)
    assert owner.repair() == {"link-missing": True}
    assert owner.found() == {}
    link = owner.originals.links.get(DIGEST)
    assert link is not None
    assert [file.path for file in link.files] == [path]
    path.unlink()
    with pytest.raises(LinkMissing, match="ARTSEEK_LINK_ROOTS"):
        owner.originals.get(DIGEST)


def test_an_upload_of_a_linked_original_is_copied_and_a_stored_one_is_not_linked(owner: Owner) -> None:
    small, large = owner.root / "small.png", owner.root / "large.png"
    owner.ingest(small)
    summary = owner.ingest(small, link=False)
    assert (summary.job.counts.duplicates, summary.restored) == (1, 0)
    small.write_bytes(b"gone")
    assert owner.originals.get(DIGEST) == SMALL
    assert owner.originals.flags(DIGEST) == []
    assert owner.found() == {}
    owner.ingest(large, link=False)
    owner.ingest(large)
    assert not owner.originals.links.exists(LARGE_DIGEST)
    # Of a copy that is damaged, too, no repair says that it is whole.
    owner.parts.store.put(layout.original_key(DIGEST), bytes(len(SMALL)))
    assert owner.repair() == {"original-damaged": False}


def test_the_pages_of_a_linked_document_are_read_from_its_file(owner: Owner) -> None:
    shades, path, store = [40, 120, 200], owner.root / "scan.tif", owner.parts.store
    first, *others = [Image.new("L", (64, 48), shade) for shade in shades]
    first.save(path, "TIFF", save_all=True, append_images=others)
    data = path.read_bytes()
    owner.ingest(path)
    document = Documents(store).get(layout.digest_of(data))
    assert document is not None
    assert document.pages == len(shades)
    pages = document.page_digests()
    assert owner.kept() == {layout.link_key(document.digest), *map(layout.original_key, pages)}

    def shown() -> list[int]:
        thumbnails = Thumbnails(store, DECODER)  # which has kept none
        store.delete([layout.derivative_key(digest) for digest in (document.digest, *pages)])
        made = [thumbnails.make(digest, size=len(data)) for digest in (document.digest, *pages)]
        return [round(np.asarray(Image.open(io.BytesIO(one)).convert("L")).mean()) for one in made]

    assert shown() == pytest.approx(shades, abs=2)
    assert owner.found() == {}
    # Its file is moved: all pages follow it.
    moved = path.rename(owner.root / "moved.tif")
    with pytest.raises(LinkMissing):
        shown()
    assert owner.found() == {"link-missing": 1}
    relink(store, owner.parts.state, [(document.digest, moved)], also_missing=False)
    assert shown() == pytest.approx(shades, abs=2)
    owner.parts.purge("art", [layout.image_id(document.digest)])
    assert owner.kept() == set()
    assert moved.read_bytes() == data


def test_processes_that_link_files_of_one_content_at_once_lose_no_path(owner: Owner, servers: Servers) -> None:
    paths = [owner.root / f"copy {number}.png" for number in range(8)]
    for path in paths:
        path.write_bytes(SMALL)

    def link(number: int) -> None:  # as a process of its own, with clients of its own
        parts = parts_of(servers.settings.model_copy(update={"link_roots": str(owner.root)}))
        if number % 2:
            relink(parts.store, parts.state, [(DIGEST, paths[number])], also_missing=True)
        else:
            with Intake("art", parts.clients(), IntakeOptions(batch_size=32, link=True)) as intake:
                intake.add(paths[number].name, None, lambda: paths[number])

    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(link, range(len(paths))))
    linked = owner.originals.links.get(DIGEST)
    assert linked is not None
    assert sorted(file.path for file in linked.files) == paths


def test_large_originals_are_compared_before_they_are_used(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original_files, "LARGE", 10)
    monkeypatch.setattr(original_files, "_PART", 7)
    path, data = owner.root / "master.tif", bytes(range(256)) * 400
    path.write_bytes(data)
    found = FoundLink(owner.parts.store, path)
    owner.originals.link_file(found)
    with owner.originals.fetched(found.digest, 0) as file:
        assert not isinstance(file, bytes)
        file.seek(0)
        assert file.read() == data
    parts, sent = owner.originals.stream(found.digest), bytearray()
    sent += next(parts)
    with path.open("r+b") as opened:
        opened.seek(len(data) - 1)
        opened.write(b"x")
    with pytest.raises(LinkChanged):
        sent.extend(byte for part in parts for byte in part)
    assert len(sent) < len(data)
    with pytest.raises(LinkChanged), owner.originals.fetched(found.digest, 0):
        pass


def test_a_backup_says_what_it_does_not_hold(owner: Owner, tmp_path: Path, servers: Servers) -> None:
    owner.ingest()
    owner.ingest(owner.root / "large.png", link=False)
    owner.parts.delete("art", [layout.image_id(DIGEST)])
    repository = Repository.create(FolderTarget(tmp_path / "backup"))
    settings = servers.settings.model_copy(update={"models": tmp_path / "models"})
    made = back_up(owner.parts.clients(), repository, settings)
    assert (made.header.images, made.header.linked) == (1, 1)
    snapshot = repository.read_snapshot(made.snapshot)
    keys = {entry.key for entry in snapshot.objects}
    assert {layout.link_key(DIGEST), layout.trash_key("art", DIGEST)} <= keys
    assert layout.original_key(DIGEST) not in keys
    restorer = Restorer(owner.parts.clients(), repository, made.snapshot, snapshot)
    restorer.clear()
    assert owner.kept() == set()
    assert restorer.restore().linked == 1
    assert owner.originals.get(DIGEST) == SMALL
