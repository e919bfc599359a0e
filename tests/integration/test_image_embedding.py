"""A batch on real servers: the model has its first images while others are decoded, and each has its embedding."""

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder.embedder import Embedder, Options
from shared.images import DirectDecoder
from shared.messaging.deliveries import Delivery
from shared.messaging.messages import BatchImage
from shared.rpc.serving.client import ModelSignature
from shared.storage import layout, segments
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.pictures import saved
from tests.support.servers import Servers

SIZE = 32
PATIENCE_S = 60.0


class Model:
    """Embeds an image as its colour; notes how many images came in each call, and that the first has come."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.called = threading.Event()

    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, SIZE, DIM)

    def embed(self, pixels: Any) -> Any:
        self.calls.append(len(pixels))
        self.called.set()
        vectors = np.zeros((len(pixels), DIM), np.float32)
        vectors[:, :3] = pixels.mean(axis=(1, 2))
        return vectors


class WaitingDecoder(DirectDecoder):
    """Decodes the last images of a batch once the model was called."""

    def __init__(self, called: threading.Event, after: int) -> None:
        super().__init__()
        self._called, self._after, self._numbers = called, after, itertools.count()

    def decode(self, data: Any, **options: Any) -> Any:
        if next(self._numbers) >= self._after:
            assert self._called.wait(PATIENCE_S), "the model gets nothing until all images are decoded"
        return super().decode(data, **options)


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def stored(parts: Parts, count: int) -> list[BatchImage]:
    """Store originals of one colour each, the fifth of them damaged, as the intake does."""
    items = []
    for number in range(count):
        data = saved(Image.new("RGB", (40, 40), (8 * number, 255 - 8 * number, 99)), "PNG")
        data = data[:60] if number == 4 else data
        items.append(BatchImage(layout.digest_of(data), f"{number}.png", None, len(data)))
        parts.store.put(layout.original_key(items[-1].digest), data)
    return items


def written(parts: Parts, job: str) -> dict[int, list[int]]:
    """Return the colours in the segment of a job, by the image's id."""
    rows = segments.unpack(parts.store.get(layout.segment_key("art", layout.batch_segment(job, 0))), verify=True)
    colours = np.rint(segments.vectors_of(rows)[:, :3]).astype(int).tolist()
    return dict(zip(segments.ids_of(rows).tolist(), colours, strict=True))


def colours_of(items: Sequence[BatchImage]) -> dict[int, list[int]]:
    return {
        layout.image_id(item.digest): [8 * number, 255 - 8 * number, 99]
        for number, item in enumerate(items)
        if number != 4
    }


def test_the_model_has_the_first_images_while_the_others_are_decoded(parts: Parts) -> None:
    parts.collection()
    model = Model()
    parts.connect_model = lambda *_: model  # type: ignore[assignment]
    items = stored(parts, 31)
    decoder = WaitingDecoder(model.called, after=20)
    embedder = Embedder(parts.clients(), Options(model=("lite", 1), decoder=decoder, program="test"))
    embedder.embed(job=parts.job(), batch=0, collection="art", items=items)
    assert written(parts, "j") == colours_of(items)
    assert len(model.calls) > 1
    assert sum(model.calls) == 30


def test_after_an_attempt_that_died_nothing_goes_on_beside_the_decoder(parts: Parts) -> None:
    parts.collection()
    model = Model()
    parts.connect_model = lambda *_: model  # type: ignore[assignment]
    items, job = stored(parts, 31), parts.job()
    parts.state.attempts.begin(layout.batch_segment(job, 0), delivery="first")
    embedder = Embedder(parts.clients(), Options(model=("lite", 1), decoder=DirectDecoder(), program="test"))
    embedder.embed(job=job, batch=0, collection="art", items=items, delivery=Delivery("second", lost="first"))
    assert written(parts, job) == colours_of(items)
    assert model.calls == [30]
