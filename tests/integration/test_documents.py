"""Documents on real servers: each page is an image, the file is stored once, whatever dies or is deleted."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder.embedder import Embedder, Options
from services.web.thumbnails import Thumbnails
from shared.backup.contents import Contents
from shared.images import DirectDecoder
from shared.index.derivatives import Derivatives
from shared.index.restoring import restore
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED_BATCH
from shared.rpc.serving.client import ModelSignature
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.documents import Document, DocumentPage, PageFile
from shared.storage.object_store import StoredObject
from shared.verification.verifier import Extent, Verifier
from tests.support.indexing import DIM, Died, Parts, parts_of
from tests.support.servers import Servers

SIZE = 8
PAGES = 35  # more than a batch of pages has
SHADES = [40 + 6 * number for number in range(PAGES)]


def a_tiff(shades: Sequence[int], side: int = 16) -> bytes:
    """A TIFF file with a page for each shade of grey."""
    first, *others = [Image.new("L", (side, side), shade) for shade in shades]
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


FILE = a_tiff(SHADES)
DOCUMENT = Document(layout.digest_of(FILE), PAGES, len(FILE))
DIGESTS = [DOCUMENT.digest, *DOCUMENT.page_digests()]
IDS = [layout.image_id(digest) for digest in DIGESTS]


class Model:
    """Embeds a picture as its middle shade."""

    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, SIZE, DIM)

    def embed(self, pixels: Any) -> Any:
        return np.ones((len(pixels), DIM), np.float32) * pixels[:, SIZE // 2, SIZE // 2, :1]


@pytest.fixture
def parts(servers: Servers) -> Parts:
    made = parts_of(servers.settings)
    made.connect_model = lambda *_: Model()  # type: ignore[assignment]
    made.collection("art")
    return made


def hand_in(parts: Parts, data: bytes = FILE) -> Intake:
    with Intake("art", parts.clients(), IntakeOptions(batch_size=32, threads=1)) as intake:
        intake.add("scan.tif", None, lambda: data)
    return intake


def work_off(parts: Parts, job: str, life: list[int] | None = None) -> None:
    """Do what was sent for a job, until each of its batches is reported."""
    options = Options(model=("lite", 1), decoder=DirectDecoder(), program="test")
    while True:
        left = parts.jobs.unreported(parts.jobs.get(job))
        if not left:
            return
        for batch in left:
            message = parts.jobs.sent.get(job, batch)
            assert message is not None
            fields = {name: value for name, value in message.arguments.items() if name != "format"}
            if message.task == EMBED_BATCH:
                fields["items"] = [BatchImage(**item) for item in fields["items"]]
                Embedder(parts.clients(life), options).embed(**fields)
            else:
                fields["outcome"] = Outcome.from_json(fields["outcome"])
                parts.indexer(life).segments.index(**fields)


def live(parts: Parts) -> dict[int, tuple[DocumentPage | None, int]]:
    """Return which page each live image is, and its shade, in the order of the pages."""
    deleted, found = parts.catalog.tombstones("art"), {}
    for segment in parts.catalog.segments("art"):
        batch = segments.unpack(parts.store.get(layout.segment_key("art", segment)))
        vectors = segments.vectors_of(batch)
        for row, place in enumerate(segments.documents_of(batch)):
            entry = segments.entry_of(batch, row)
            if (segment, entry.id) not in deleted:
                assert (entry.name, entry.label, entry.size) == ("scan.tif", None, len(FILE))
                found[entry.id] = place, round(float(vectors[row, 0]))
    return dict(sorted(found.items(), key=lambda item: item[1][1]))


def originals(parts: Parts) -> set[str]:
    return {item.key.removeprefix(layout.ORIGINALS) for item in parts.store.list(layout.ORIGINALS)}


def test_a_document_from_its_first_day_to_its_last(parts: Parts) -> None:
    intake = hand_in(parts)
    work_off(parts, intake.job)
    pages = [DocumentPage(DOCUMENT.digest, number, PAGES) for number in range(1, PAGES + 1)]
    assert live(parts) == dict(zip(IDS, zip(pages, SHADES, strict=True), strict=True))
    job = parts.jobs.get(intake.job)
    assert (job.state, job.total, parts.jobs.outcome(job.id)) == ("done", PAGES, Outcome({"": PAGES}))
    intake.wait()  # and has nothing left to wait for
    assert originals(parts) == set(DIGESTS)
    stored = [item.size for item in parts.store.list(layout.ORIGINALS)]
    assert sum(size > 512 for size in stored) == 1  # the file is stored once
    assert is_whole(parts)

    # Shown: thumbnails and derivatives of a page are of that page.
    thumbnail = Thumbnails(parts.store, DirectDecoder()).make(DIGESTS[6], size=len(FILE))
    assert shade(thumbnail) == SHADES[6]
    assert shade(Derivatives(parts.store, DirectDecoder()).of_original(DIGESTS[7], len(FILE)).data) == SHADES[7]

    # The same file again: nothing new, but a page that was deleted comes back.
    work_off(parts, hand_in(parts).job)
    assert len(live(parts)) == PAGES
    parts.delete("art", [IDS[3]], job="one")
    assert live(parts).keys() == set(IDS) - {IDS[3]}
    again = hand_in(parts)
    work_off(parts, again.job)
    assert parts.jobs.outcome(again.job) == Outcome({"": 1}, duplicates=1)
    assert live(parts).keys() == set(IDS)

    # A page that is purged leaves the others and the file; the first takes all along.
    parts.purge("art", [IDS[4]], job="a page")
    assert originals(parts) == set(DIGESTS) - {DIGESTS[4]}
    parts.delete("art", [IDS[0]], job="all")
    assert live(parts) == {}
    assert parts.jobs.get("all").counts.affected == PAGES - 1
    assert is_whole(parts)
    restored = restore(parts.clients(), "art", IDS[0])
    work_off(parts, restored)
    assert live(parts).keys() == set(IDS)
    parts.purge("art", [IDS[0]], job="everything")
    assert originals(parts) == set()
    assert [item.key for item in parts.store.list(layout.DOCUMENTS)] == []


def test_a_document_whose_first_page_is_gone_stays_for_the_others(parts: Parts) -> None:
    work_off(parts, hand_in(parts).job)
    parts.indexer().deletion._deleter.delete(parts.catalog.get("art"), [IDS[0]])  # as a lost row
    parts.maintenance(orphan_hours=0).orphan_collector.collect()
    assert originals(parts) == set(DIGESTS)
    restored = parts.delete("art", [IDS[9]])
    assert parts.jobs.get(restored).counts.affected == 1
    contents = Contents(parts.clients(), Copier())  # type: ignore[arg-type]
    late = contents._copy_trash(contents._list(layout.TRASH), {})
    assert late.keys() >= {layout.original_key(DIGESTS[9]), layout.original_key(DOCUMENT.digest)}
    work_off(parts, restore(parts.clients(), "art", IDS[9]))
    assert live(parts)[IDS[9]] == (DocumentPage(DOCUMENT.digest, 10, PAGES), SHADES[9])
    parts.maintenance().dropper.drop(job=parts.job("drop", kind="drop"), collection="art")
    assert originals(parts) == set()


@pytest.mark.parametrize("calls", [18, 75, 190])
def test_an_embedder_that_dies_anywhere_comes_to_the_same_end(parts: Parts, calls: int) -> None:
    job = hand_in(parts).job
    with pytest.raises(Died):
        work_off(parts, job, [calls])
    work_off(parts, job)
    assert live(parts).keys() == set(IDS)
    assert parts.jobs.outcome(job).added == {"": PAGES}
    assert not any(parts.state.pins.pinned(DIGESTS))


def test_what_only_looks_like_a_page_is_no_way_to_the_files_of_others(parts: Parts) -> None:
    work_off(parts, hand_in(parts).job)
    file = PageFile(DOCUMENT.digest, PAGES + 1, DOCUMENT.size)
    job = hand_in(parts, file.data).job
    work_off(parts, job)
    (refused,) = parts.jobs.outcome(job).rejected
    assert refused.code == "not-an-image"
    assert file.digest not in originals(parts)


class Copier:
    """Copies nothing, and says that it has."""

    def copy(self, objects: Iterable[StoredObject]) -> dict[str, StoredObject]:
        return {item.key: item for item in objects}


def shade(jpeg: bytes) -> int:
    with Image.open(io.BytesIO(jpeg)) as image:
        return int(np.asarray(image.convert("L")).mean().round())


def is_whole(parts: Parts) -> bool:
    return bool(Verifier(parts.clients(), query=None).verify(Extent()).ok)
