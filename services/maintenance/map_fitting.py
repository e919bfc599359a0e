"""Lays images out on a map by t-SNE (van der Maaten and Hinton, 2008), by openTSNE; the same images lie the same way.

A single thread computes it, and everything that is drawn by chance goes by a fixed seed.
"""

import logging
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.maps.image_map import Projection, normalized

COMPONENTS: Final = 50
"""Principal components that images are compared in, as is usual for t-SNE."""

_PERPLEXITY: Final = 30.0
_LEAST: Final = 8  # images that t-SNE lays out; fewer lie by their first two components
_SEED: Final = 0
_BLOCK: Final = 1024
_CHECKED_EVERY: Final = 25  # iterations of t-SNE, of 750


def fit_projection(embeddings: NDArray[np.float32]) -> Projection:
    """Return the principal components of embeddings [n, dim], n at least 1, brought to length 1."""
    unit = normalized(embeddings)
    mean = unit.mean(axis=0)
    centred = (unit - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, ::-1][:, : min(COMPONENTS, unit.shape[1])]
    # The sign of a component is anybody's choice: its largest number is to be positive.
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
    return Projection(mean.astype(np.float32), (components * np.sign(largest)).astype(np.float32))


def lay_out(points: NDArray[np.float32], check: Callable[[], None] = lambda: None) -> NDArray[np.float32]:
    """Return where images lie on a map.

    Args:
        points: float32 [n, c], the images in the projection of the map.
        check: Is called every few seconds; what it raises ends the work.

    Returns:
        float32 [n, 2] from -1 to 1.
    """
    plane = np.zeros((len(points), 2))
    plane[:, : points.shape[1]] = points[:, :2]
    if len(points) >= _LEAST:
        plane = _by_t_sne(points, plane, check)
    plane -= (plane.max(axis=0) + plane.min(axis=0)) / 2
    places: NDArray[np.float32] = (plane / max(np.abs(plane).max(), np.finfo(np.float32).tiny)).astype(np.float32)
    return places


def _by_t_sne(
    points: NDArray[np.float32], plane: NDArray[np.float64], check: Callable[[], None]
) -> NDArray[np.float64]:
    # It takes seconds to import, which the other tasks of the worker need not wait for.
    from openTSNE import TSNE  # noqa: PLC0415
    from openTSNE.affinity import PerplexityBasedNN  # noqa: PLC0415
    from openTSNE.initialization import rescale  # noqa: PLC0415
    from openTSNE.nearest_neighbors import PrecomputedNeighbors  # noqa: PLC0415

    logging.getLogger("openTSNE").setLevel(logging.WARNING)  # it tells that it does as it is told
    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    near, distances = _neighbours(points, int(3 * perplexity), check)
    affinities = PerplexityBasedNN(
        knn_index=PrecomputedNeighbors(near, distances), perplexity=perplexity, n_jobs=1, random_state=_SEED
    )
    start = rescale(plane) if plane.std() > 0 else plane

    def go_on(*_: object) -> bool:
        check()
        return False  # whether to stop, with what there is

    t_sne = TSNE(n_jobs=1, random_state=_SEED, callbacks=go_on, callbacks_every_iters=_CHECKED_EVERY)
    found = t_sne.fit(affinities=affinities, initialization=start)
    return np.asarray(found, np.float64)


def _neighbours(
    points: NDArray[np.float32], count: int, check: Callable[[], None]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest images of each but itself, int64 [n, count], nearest first, and their distances."""
    near = np.empty((len(points), count), np.int64)
    far = np.empty((len(points), count))
    lengths = (points**2).sum(axis=1)
    for start in range(0, len(points), _BLOCK):
        check()
        block = slice(start, min(start + _BLOCK, len(points)))
        squares = lengths[block, None] + lengths - 2 * points[block] @ points.T
        squares[np.arange(squares.shape[0]), np.arange(block.start, block.stop)] = np.inf
        found = np.argpartition(squares, count - 1, axis=1)[:, :count]
        taken = np.take_along_axis(squares, found, axis=1)
        order = np.argsort(taken, axis=1, kind="stable")
        near[block] = np.take_along_axis(found, order, axis=1)
        far[block] = np.sqrt(np.maximum(np.take_along_axis(taken, order, axis=1), 0))
    return near, far
