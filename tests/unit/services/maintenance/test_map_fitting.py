"""Laying images out on a map: groups stay together, and the same images always lie the same way."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.maintenance.map_fitting import fit_projection, lay_out

GROUPS, EACH = 5, 40


def embeddings(seed: int = 1) -> NDArray[np.float32]:
    """Return unit vectors in groups, in turn."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(GROUPS, 64))
    found = np.tile(centres, (EACH, 1)) + 0.3 * chance.normal(size=(GROUPS * EACH, 64))
    unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.slow
def test_images_of_a_group_lie_together_and_always_at_the_same_place() -> None:
    rows = embeddings()
    projection = fit_projection(rows)
    found = lay_out(projection.apply(rows))
    assert found.shape == (GROUPS * EACH, 2)
    assert found.dtype == np.float32
    assert np.abs(found).max() == 1
    group = np.arange(len(found)) % GROUPS
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1)[:, :10]
    assert (group[near] == group[:, None]).mean() > 0.95
    again = fit_projection(rows)
    assert np.array_equal(lay_out(again.apply(rows)), found)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_images_lie_apart(count: int) -> None:
    rows = embeddings()[:count]
    projection = fit_projection(rows)
    found = lay_out(projection.apply(rows))
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == count
    assert np.abs(found).max() <= 1


def test_images_that_are_all_the_same_are_laid_out_all_the_same() -> None:
    rows = np.repeat(embeddings()[:1], 3, axis=0)
    assert np.isfinite(lay_out(fit_projection(rows).apply(rows))).all()


def test_a_projection_keeps_what_tells_images_apart() -> None:
    rows = embeddings()
    points = fit_projection(rows).apply(3 * rows)  # the length of an embedding does not count
    assert points.shape == (len(rows), 50)
    kept, whole = np.linalg.norm(points, axis=1) ** 2, np.linalg.norm(rows - rows.mean(axis=0), axis=1) ** 2
    assert kept.sum() / whole.sum() > 0.95
