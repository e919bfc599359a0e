"""Derivatives and thumbnails on real servers: made of images, shown and embedded in their stead, and gone with them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder.derived_images import DerivedImages
from services.embedder.embedder import Embedder, Options
from services.web import thumbnails as thumbnail_module
from services.web.thumbnails import Thumbnails
from shared.backup.contents import Contents
from shared.errors import ObjectNotFound, StoreUnavailable
from shared.images import DirectDecoder, ImageInfo, decode
from shared.images.jpeg_notes import with_note
from shared.index.derivatives import Derivatives
from shared.index.originals import Originals
from shared.index.proofs import Proofs
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.messages import BatchImage
from shared.proof.features import LocalFeatures
from shared.rpc.serving.client import ModelSignature
from shared.storage import layout, segments
from shared.storage.large_objects import LARGE
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.pictures import quadrants, saved
from tests.support.servers import Servers

SIZE = 32
DECODER = DirectDecoder()
FILES = {
    "large.jpg": saved(quadrants(2400, 1200), "JPEG"),
    "master.tif": saved(quadrants(200, 100), "TIFF"),
    "small.jpg": saved(quadrants(300, 200), "JPEG"),
}
DIGESTS = {name: layout.digest_of(data) for name, data in FILES.items()}
ITEMS = {name: BatchImage(DIGESTS[name], name, None, len(data)) for name, data in FILES.items()}


class Model:
    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, SIZE, DIM)

    def embed(self, pixels: Any) -> Any:
        return np.ones((len(pixels), DIM), np.float32)


@pytest.fixture
def parts(servers: Servers) -> Parts:
    made = parts_of(servers.settings)
    made.connect_model = lambda *_: Model()  # type: ignore[assignment]
    made.collection("art")
    with Intake("art", made.clients(), IntakeOptions(batch_size=32, threads=1)) as intake:
        for name, data in FILES.items():
            intake.add(name, None, lambda data=data: data)  # type: ignore[misc]
    embedder = Embedder(made.clients(), Options(model=("lite", 1), decoder=DECODER, program="test"))
    embedder.embed(job=intake.job, batch=0, collection="art", items=list(ITEMS.values()))
    return made


def keys(parts: Parts, prefix: str = layout.DERIVATIVES) -> set[str]:
    return {item.key for item in parts.store.list(prefix)}


class NoDecoder(DirectDecoder):
    def thumbnail(self, *_: object, **__: object) -> bytes:
        raise AssertionError("a thumbnail was made")


def test_a_large_image_has_a_derivative_from_its_first_day_to_its_last(parts: Parts) -> None:
    derived = {layout.derivative_key(DIGESTS[name]) for name in ("large.jpg", "master.tif")}
    assert keys(parts) == derived
    derivatives = Derivatives(parts.store, DECODER)
    found = derivatives.get(DIGESTS["large.jpg"])
    assert found is not None
    assert found.info == ImageInfo("jpeg", "image/jpeg", 2400, 1200)
    with Image.open(io.BytesIO(found.data)) as image:
        assert (image.format, image.size) == ("JPEG", (1600, 800))
    # Another model embeds it, and thumbnails are made of it, though the original cannot be read.
    parts.store.put(layout.original_key(DIGESTS["large.jpg"]), b"unreadable")
    again = DerivedImages(parts.store, DECODER).decode(ITEMS["large.jpg"], size=SIZE)
    assert again is not None
    assert again.info == found.info
    assert np.abs(again.pixels.astype(int) - decode(FILES["large.jpg"], size=SIZE)[0]).mean() < 2
    with Image.open(io.BytesIO(Thumbnails(parts.store, DECODER).make(DIGESTS["large.jpg"]))) as image:
        assert image.size == (256, 128)
    assert not {"derivatives/", "thumbnails/"} & set(Contents(parts.clients(), None)._roots())  # type: ignore[arg-type]
    Originals(parts.clients(), parts.queue).delete_unheld(list(DIGESTS.values()), leaving="art")
    assert keys(parts) == set()
    assert not list(parts.store.list(layout.ORIGINALS))


def test_a_very_long_picture_is_embedded_from_its_original(
    parts: Parts,
) -> None:
    data = saved(quadrants(300, 6000), "JPEG")
    item = BatchImage(layout.digest_of(data), "scroll.jpg", None, len(data))
    parts.store.put(layout.original_key(item.digest), data)
    derived, size = DerivedImages(parts.store, DECODER), 224
    derived.derive(item, data, DECODER.identify(data))
    assert layout.derivative_key(item.digest) in keys(parts)
    assert derived.windows(item, size=size) is None  # of 150 pixels, 40 are left
    assert derived.decode(item, size=size) is None  # of 300, 80
    assert derived.decode(item, size=64) is not None
    of_large = derived.windows(ITEMS["large.jpg"], size=size)
    assert of_large is not None
    assert len(of_large.pixels) == 38
    assert derived.decode(ITEMS["large.jpg"], size=size) is not None


def test_a_derivative_that_lacks_is_made_and_one_without_an_original_is_collected(parts: Parts) -> None:
    derivatives = Derivatives(parts.store, DECODER)
    large, master = DIGESTS["large.jpg"], DIGESTS["master.tif"]
    parts.store.delete([layout.derivative_key(large)])
    parts.store.put(layout.derivative_key(master), b"of a newer format")
    assert derivatives.of_original(large, 1).info.width == 2400
    assert derivatives.of_original(master, LARGE).info == ImageInfo("tiff", "image/tiff", 200, 100)
    assert len(keys(parts)) == 2
    gone = layout.digest_of(b"gone")
    with pytest.raises(ObjectNotFound):
        derivatives.of_original(gone, 1)
    derivatives.make(gone, FILES["large.jpg"], ImageInfo("jpeg", "image/jpeg", 2400, 1200))
    assert len(keys(parts)) == 2  # its original was deleted while it was made
    parts.store.put(layout.derivative_key(gone), b"left by a worker that died")
    assert parts.maintenance(orphan_hours=0).orphan_collector.collect() == 0
    assert len(keys(parts)) == 2


@pytest.mark.parametrize("name", FILES)
def test_a_thumbnail_is_made_once_and_gone_with_its_original(parts: Parts, name: str) -> None:
    digest = DIGESTS[name]
    assert Thumbnails(parts.store, DECODER).get(digest) is None
    made = Thumbnails(parts.store, DECODER).make(digest, size=len(FILES[name]))
    kept = Thumbnails(parts.store, NoDecoder())
    assert kept.get(digest) == made
    with Image.open(io.BytesIO(made)) as image:
        assert max(image.size) == thumbnail_module.SIDE if name != "master.tif" else image.size == (200, 100)
    parts.store.delete([layout.thumbnail_key(digest)])
    assert kept.get(digest) == made  # from memory
    Thumbnails(parts.store, DECODER).make(digest, size=len(FILES[name]))
    assert keys(parts, layout.THUMBNAILS) == {layout.thumbnail_key(digest)}
    Originals(parts.clients(), parts.queue).delete_unheld(list(DIGESTS.values()), leaving="art")
    assert keys(parts, layout.THUMBNAILS) == set()


def test_a_thumbnail_of_another_size_is_made_anew(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = DIGESTS["small.jpg"]
    Thumbnails(parts.store, DECODER).make(digest)
    monkeypatch.setattr(thumbnail_module, "SIDE", 128)
    thumbnails = Thumbnails(parts.store, DECODER)
    assert thumbnails.get(digest) is None
    thumbnails.make(digest)
    with Image.open(io.BytesIO(Thumbnails(parts.store, NoDecoder()).get(digest) or b"")) as image:
        assert max(image.size) == 128
    parts.store.put(layout.thumbnail_key(digest), b"broken")
    assert Thumbnails(parts.store, DECODER).get(digest) is None


def test_a_thumbnail_without_an_original_is_not_kept(parts: Parts) -> None:
    gone, key = layout.digest_of(b"gone"), "queries/one"
    parts.store.put(key, FILES["small.jpg"])
    thumbnails = Thumbnails(parts.store, DECODER)
    assert thumbnails.get(gone, key=key) is None
    assert thumbnails.make(gone, key=key) == thumbnails.get(gone, key=key)
    assert keys(parts, layout.THUMBNAILS) == set()  # of a query
    info = ImageInfo("jpeg", "image/jpeg", 300, 200)
    parts.store.put(layout.derivative_key(gone), with_note(FILES["small.jpg"], {"original": vars(info)}, version=1))
    Thumbnails(parts.store, DECODER).make(gone)
    assert keys(parts, layout.THUMBNAILS) == set()  # its original was deleted while it was made
    parts.store.put(layout.thumbnail_key(gone), b"left by a process that died")
    assert parts.maintenance(orphan_hours=0).orphan_collector.collect() == 0
    assert keys(parts, layout.THUMBNAILS) == set()


def test_a_thumbnail_is_shown_where_the_store_does_not_take_it(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(parts.store, "put", refuse)
    thumbnails = Thumbnails(parts.store, DECODER)
    made = thumbnails.make(DIGESTS["small.jpg"])
    assert thumbnails.get(DIGESTS["small.jpg"]) == made


def test_local_features_lie_in_the_original_though_a_collection_does_not_know_its_sides(
    parts: Parts, servers: Servers
) -> None:
    item = ITEMS["large.jpg"]
    known = segments.Entry(layout.image_id(item.digest), item.digest, "", None, item.size, "image/jpeg", 0, 0, 1.0)
    proofs = Proofs.from_settings(servers.settings, parts.store, threads=1)
    try:
        features = LocalFeatures.unpack(proofs.of_image(known))
    finally:
        proofs.close()
    assert (features.width, features.height) == (2400, 1200)
