"""Derivatives on real servers: made with large images, shown and embedded in their stead, and gone with them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder.derived_images import DerivedImages
from services.embedder.embedder import Embedder, Options
from services.web.thumbnails import Thumbnails
from shared.backup.contents import Contents
from shared.errors import ObjectNotFound
from shared.images import DirectDecoder, ImageInfo, decode
from shared.index.derivatives import Derivatives
from shared.index.originals import Originals
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.messages import BatchImage
from shared.rpc.serving.client import ModelSignature
from shared.storage import layout
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


def keys(parts: Parts) -> set[str]:
    return {item.key for item in parts.store.list(layout.DERIVATIVES)}


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
    assert not [root for root in Contents(parts.clients(), None)._roots() if "derivatives" in root]  # type: ignore[arg-type]
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
