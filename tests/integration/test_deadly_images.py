"""Images whose decoding process dies: the embedder tries again, sets them aside, and adds the others of the batch."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from services.embedder.embedder import Embedder, Options
from shared.images import DirectDecoder, ImageInfo
from shared.images.decoder_pool import DecoderDied, DecodersBusy
from shared.messaging.messages import BatchImage
from shared.rpc.serving.client import ModelSignature
from shared.state.job_ids import new_job_id
from shared.storage import layout
from tests.support.indexing import DIM, parts_of
from tests.support.servers import Servers


class Model:
    def signature(self) -> ModelSignature:
        return ModelSignature("lite", 1, 8, DIM)

    def embed(self, pixels: Any) -> Any:
        return np.ones((len(pixels), DIM), np.float32)


class FragileDecoder(DirectDecoder):
    """Dies of an image as often as `deaths` says, by its digest."""

    def __init__(self) -> None:
        super().__init__()
        self.deaths: dict[str, int] = {}
        self.tries: list[str] = []

    def decode(self, data: Any, **options: Any) -> tuple[npt.NDArray[np.uint8], ImageInfo]:
        digest = layout.digest_of(data)
        self.tries.append(digest)
        if self.deaths.get(digest, 0):
            self.deaths[digest] -= 1
            raise DecoderDied("it died of SIGSEGV")
        return super().decode(data, **options)


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_an_image_that_kills_its_decoder_is_set_aside_after_two_strikes(servers: Servers) -> None:
    parts = parts_of(servers.settings)
    parts.connect_model = lambda *_: Model()  # type: ignore[assignment]
    decoder = FragileDecoder()
    embedder = Embedder(parts.clients(), Options(model=("lite", 1), decoder=decoder, program="test"))
    pictures = [picture(number) for number in range(4)]
    items = [BatchImage(layout.digest_of(data), f"{number}.png", None, 1) for number, data in enumerate(pictures)]
    unlucky, deadly = items[1], items[2]
    decoder.deaths = {unlucky.digest: 1, deadly.digest: 99}

    def run() -> list[tuple[str, str]]:
        for item, data in zip(items, pictures, strict=True):
            parts.store.put(layout.original_key(item.digest), data)
        job = new_job_id()
        parts.jobs.create(job, "art")
        parts.jobs.extend(job, batches=1, total=len(items), closed=True)
        embedder.embed(job=job, batch=0, collection="art", items=items)
        return [(rejection.name, rejection.code) for rejection in parts.jobs.outcome(job).rejected]

    run()
    assert parts.state.claims.count("art") == 3  # the unlucky one among them
    assert [decoder.tries.count(item.digest) for item in items] == [1, 2, 2, 1]
    assert parts.store.exists(layout.set_aside_key(deadly.digest))

    decoder.tries.clear()
    assert run() == [("2.png", "set-aside")]
    assert decoder.tries == []


def test_a_batch_waits_while_no_decoder_is_to_be_had(servers: Servers) -> None:
    parts = parts_of(servers.settings)
    parts.connect_model = lambda *_: Model()  # type: ignore[assignment]

    class Busy(DirectDecoder):
        def decode(self, data: Any, **options: Any) -> tuple[npt.NDArray[np.uint8], ImageInfo]:  # noqa: ARG002
            raise DecodersBusy("no decoding process can be started")

    embedder = Embedder(parts.clients(), Options(model=("lite", 1), decoder=Busy(), program="test"))
    data = picture(1)
    parts.store.put(layout.original_key(layout.digest_of(data)), data)
    job = new_job_id()
    parts.jobs.create(job, "art")
    parts.jobs.extend(job, batches=1, total=1, closed=True)
    with pytest.raises(DecodersBusy):
        embedder.embed(job=job, batch=0, collection="art", items=[BatchImage(layout.digest_of(data), "1.png", None, 1)])
    assert not parts.jobs.get(job).done
