"""Small pictures drawn from the seed: the same number is the same file, and no two files are equal."""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from shared.storage.layout import image_id

_SIDE = 64
_CELLS = 4
LABELS = ("etching", "oil", "woodcut")


@dataclass(frozen=True)
class Picture:
    """A picture of a run."""

    seed: int
    number: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.number:06}.{'jpg' if self.number % 2 else 'png'}"

    @cached_property
    def content(self) -> bytes:
        """The file: coloured cells with some noise, so that pictures differ for the model too."""
        random = np.random.default_rng((self.seed, self.number))
        cells = random.integers(0, 256, (_CELLS, _CELLS, 3)).astype(np.float64)
        smooth = np.kron(cells, np.ones((_SIDE // _CELLS, _SIDE // _CELLS, 1)))
        pixels = np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG" if self.number % 2 else "PNG", quality=92)
        return file.getvalue()

    @cached_property
    def digest(self) -> str:
        """The file's SHA-256."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def id(self) -> int:
        """The image's id."""
        return image_id(self.digest)
