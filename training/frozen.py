"""What the frozen part of a network makes of pictures: computed once, kept in the run's folder, taken up again."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from training.pictures import batches
from training.runs import Outputs, Run

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is, and how much there is."""

BATCH = 32
_HALF = 3e4  # outputs beyond this are kept in single precision

Floats = npt.NDArray[np.float32]
Kept = npt.NDArray[np.float16 | np.float32]


def forward(network: keras.Model | None, pixels: npt.NDArray[np.uint8]) -> Floats:
    """Return what a network makes of pictures, uint8 [n, size, size, 3]; None leaves them as they are."""
    images = pixels.astype(np.float32)
    return images if network is None else np.asarray(network.predict_on_batch(images), np.float32)


def frozen_outputs(
    run: Run,
    name: str,
    network: keras.Model | None,
    paths: Sequence[Path],
    size: int,
    tell: Tell,
    *,
    seeds: Sequence[Sequence[int]] | None = None,
) -> Kept:
    """Return what a network makes of pictures, [n, …], in half precision where that holds it.

    Args:
        run: In whose folder it is kept, under this `name`.
        name: Of these pictures.
        network: It, or its part; None: what it is to be given.
        paths: Files that can be decoded.
        size: Side of the square that is cut out of their middle, in pixels.
        tell: Is told how far it is.
        seeds: For each picture what it is varied by, as `training.pictures.varied` does; None: pictures as they are.
    """
    first = forward(network, next(batches(paths[:BATCH], size, batch=BATCH)))
    dtype = np.float16 if float(np.abs(first).max()) < _HALF else np.float32
    outputs = Outputs(run.path(f"frozen-{name}.npy"), (len(paths), *first.shape[1:]), dtype)
    rest = None if seeds is None else seeds[outputs.count :]
    for pixels in batches(paths[outputs.count :], size, batch=BATCH, seeds=rest):
        outputs.append(forward(network, pixels))
        tell(f"frozen part, {name}", outputs.count, len(paths))
    return outputs.values
