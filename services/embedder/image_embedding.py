"""Embeds the images of a batch: the first are with the model while the others are still being decoded."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from services.embedder.decoded import Decoded
from services.embedder.image_decoding import ImageDecoding
from shared.messaging.messages import BatchImage
from shared.rpc.serving import ServingClient
from shared.state import Rejection
from shared.state.attempts import Attempt

_PART: Final = 16  # images of a call: half a batch, which the model takes about as fast as a whole one

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """Images, their embeddings, float32 [n, dim], and by the digests of others why they are refused."""

    images: Sequence[Decoded]
    vectors: Vectors
    refused: dict[str, Rejection]


NOTHING: Final = EmbeddedImages([], np.empty((0, 0), np.float32), {})
"""What comes of no images."""


class ImageEmbedding:
    """Decodes and embeds batches, one at a time."""

    def __init__(self, decoding: ImageDecoding) -> None:
        self._decoding = decoding
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    def embed(
        self, attempt: Attempt, items: Sequence[BatchImage], serving: ServingClient, *, moving: bool
    ) -> EmbeddedImages:
        """Decode and embed images; those that are `moving` to another model are in the collection already.

        Raises:
            ServingError: The model server failed; see `shared.rpc.serving.errors`.
            Unavailable: A server is away.
        """
        signature = serving.signature()
        # After an attempt that died, nothing goes on beside the decoder: what dies then would be blamed on its image.
        at_once = len(items) if attempt.deaths else _PART
        images: list[Decoded] = []
        refused: dict[str, Rejection] = {}
        parts: list[Future[Vectors]] = []
        sent = 0

        def send() -> None:
            nonlocal sent
            if sent < len(images):
                parts.append(self._thread.submit(serving.embed, np.stack([image.pixels for image in images[sent:]])))
                sent = len(images)

        try:
            for item, found in self._decoding.decode(attempt, items, size=signature.input_size, moving=moving):
                if isinstance(found, Rejection):
                    refused[item.digest] = found
                    continue
                images.append(found)
                if len(images) - sent >= at_once:
                    send()
            send()
            vectors = [part.result() for part in parts]
        finally:
            for part in parts:
                part.cancel()
        none = np.empty((0, signature.dim), np.float32)
        return EmbeddedImages(images, np.concatenate([none, *vectors]), refused)
