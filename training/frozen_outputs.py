"""What the frozen part of a network makes of images: computed once, and kept in the run's folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from training.batches import batches
from training.runs import Run, StoredOutputs

OnProgress = Callable[[str, int, int], None]
"""Is called now and then with what is being done, how much of it is done, and how much there is."""

BATCH = 32
_LARGEST_HALF = 3e4  # larger outputs are kept in single precision

Floats = npt.NDArray[np.float32]
Stored = npt.NDArray[np.float16 | np.float32]


def predict(network: keras.Model | None, pixels: npt.NDArray[np.uint8]) -> Floats:
    """Return what a network makes of images, uint8 [n, size, size, 3]; without a network, the images themselves."""
    images = pixels.astype(np.float32)
    return images if network is None else np.asarray(network.predict_on_batch(images), np.float32)


def stored_outputs(
    run: Run,
    name: str,
    network: keras.Model | None,
    paths: Sequence[Path],
    size: int,
    on_progress: OnProgress,
    *,
    seeds: Sequence[Sequence[int]] | None = None,
) -> Stored:
    """Return what a network makes of images, [n, …], in half precision where that holds it.

    What an earlier, interrupted run computed is taken from the run's folder.

    Args:
        run: In whose folder the outputs are kept.
        name: What they are kept under.
        network: The frozen part; None: the images themselves are kept.
        paths: Files that can be decoded.
        size: Side of the square that is cut out of their middle, in pixels.
        on_progress: Told how many images are done.
        seeds: As of `training.batches.batches`.
    """
    first = predict(network, next(batches(paths[:BATCH], size, batch=BATCH)))
    dtype = np.float16 if float(np.abs(first).max()) < _LARGEST_HALF else np.float32
    outputs = StoredOutputs(run.path(f"frozen-{name}.npy"), (len(paths), *first.shape[1:]), dtype)
    rest = None if seeds is None else seeds[outputs.count :]
    for pixels in batches(paths[outputs.count :], size, batch=BATCH, seeds=rest):
        outputs.append(predict(network, pixels))
        on_progress(f"frozen part, {name}", outputs.count, len(paths))
    return outputs.values
