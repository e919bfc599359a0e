"""Golden vectors: what a model makes of a few images, kept with each export to prove that it is served as trained.

The images are patterns of coloured squares, from coarse to fine, which the file holds at the size of an icon.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid, NotFound

GOLDEN: Final = "assets.extra/golden.npz"
TOLERANCE: Final = 1e-3
"""How far an embedding may be from the golden one, of its length if that is more than 1."""

Images: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Embed: TypeAlias = Callable[[Images], Floats]
"""From uint8 [n, size, size, 3], RGB, to float32 [n, dim]."""

_SIDE: Final = 16
_SQUARES: Final = (1, 2, 4, 8, 16)  # squares in a row, image by image


def write(folder: Path, input_size: int, embed: Embed, *, seed: int = 0) -> None:
    """Write the golden vectors of the version in `folder`, whose images are `input_size` pixels high and wide.

    Args:
        folder: the version's.
        input_size: in pixels.
        embed: the model, as the trainer has it.
        seed: of the patterns.
    """
    patterns = _patterns(seed)
    embeddings = embed(_enlarged(patterns, input_size))
    path = folder / GOLDEN
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, size=input_size, patterns=patterns, embeddings=embeddings)


def copy(source: Path, folder: Path) -> None:
    """Give the version in `folder` the golden vectors that were written into another folder."""
    path = folder / GOLDEN
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(source / GOLDEN, path)


def check(folder: Path, embed: Embed) -> float:
    """Return how far `embed` is from the golden vectors of the version in `folder`.

    That is the largest absolute difference of a component, of an embedding longer than 1 relative to its length.

    Raises:
        Invalid: it is more than `TOLERANCE`, or the golden vectors are damaged.
        NotFound: there are none.
    """
    images, expected = _read(folder / GOLDEN)
    found = np.asarray(embed(images))
    if found.shape != expected.shape:
        raise Invalid(f"the model in {folder} gives embeddings of shape {found.shape}, expected {expected.shape}")
    lengths = np.maximum(1.0, np.linalg.norm(expected, axis=1, keepdims=True))
    difference = float((np.abs(found - expected) / lengths).max())
    if not difference <= TOLERANCE:  # nor if it is not a number
        raise Invalid(
            f"the model in {folder} is {difference:.2g} away from its golden vectors, expected at most {TOLERANCE}: "
            "it is not served as it was trained; export it again"
        )
    return difference


def _read(path: Path) -> tuple[Images, Floats]:
    try:
        with np.load(path, allow_pickle=False) as file:
            size, patterns, embeddings = int(file["size"]), file["patterns"], file["embeddings"]
            return _enlarged(patterns, size), embeddings
    except FileNotFoundError:
        raise NotFound(f"there are no golden vectors {path}; export the model again") from None
    except Exception as error:  # a damaged archive can raise nearly anything
        raise Invalid(f"the golden vectors {path} are damaged ({error}); export the model again") from error


def _patterns(seed: int) -> Images:
    """Return uint8 [images, side, side, 3]."""
    rng = np.random.default_rng(seed)
    made = []
    for count in _SQUARES:
        squares: npt.NDArray[Any] = rng.integers(0, 256, (count, count, 3), np.uint8)
        made.append(squares.repeat(_SIDE // count, axis=0).repeat(_SIDE // count, axis=1))
    return np.stack(made)


def _enlarged(patterns: Images, size: int) -> Images:
    places = np.arange(size) * patterns.shape[1] // size
    return patterns[:, places][:, :, places]
