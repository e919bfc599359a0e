"""What holds for each family: all buckets give what the exact scan gives, and no order of changes leaves a trace."""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.hashing import FloatArray, HashFamily, loads
from shared.hashing.serialization import dumps
from shared.search_limits import Metric
from shared.tuning import fit
from tests.support.clusters import candidates, clustered, distances
from tests.support.examples import examples

FAMILIES = ("voronoi", "p-stable")
EVERY = {"voronoi": 65_536, "p-stable": 3**4}


@st.composite
def collections(draw: st.DrawFn) -> FloatArray:
    """Vectors, some on a grid so coarse that many are alike, as near as others, or zero; the others at random."""
    n, dim = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grid = rng.integers(-1, 2, (n, dim)) * 0.5
    coarse = rng.random((n, 1)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return np.where(coarse, grid, rng.standard_normal((n, dim))).astype(np.float32)


def small(kind: str, vectors: FloatArray, metric: Metric, *, tables: int, cells: int, width: float) -> HashFamily:
    return fit(vectors, seed=1, family=kind, tables=tables, cells=cells, hashes=4, width=width, probes=1, metric=metric)


@pytest.mark.parametrize("kind", FAMILIES)
@examples(60)
@given(
    collections(),
    st.sampled_from(("cosine", "euclidean")),
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_every_bucket_probed_is_the_exact_scan(
    kind: str, vectors: FloatArray, metric: Metric, tables: int, cells: int, seed: int
) -> None:
    # Slots so wide that no direction has more than two: then all of a table are in reach.
    width = 8.0 * vectors.shape[1] ** 0.5
    family = small(kind, vectors, metric, tables=tables, cells=cells, width=width)
    keys = family.keys(vectors)
    others = np.random.default_rng(seed).uniform(-0.4, 0.4, (3, vectors.shape[1])).astype(np.float32)
    for query in (*vectors[:3], *others):
        found = sorted(candidates(keys, family.probes(query, EVERY[kind])))
        away = distances(vectors, query, metric)
        ranked = [found[place] for place in np.lexsort((np.array(found), away[found]))]
        assert ranked == np.argsort(away, kind="stable").tolist()
        for table in range(tables):  # each table by itself
            assert len(candidates(keys[:, [table]], family.probes(query, EVERY[kind])[[table]])) == len(vectors)


Buckets = dict[tuple[int, int], set[int]]


def change(buckets: Buckets, ids: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], *, remove: bool) -> None:
    """Put ids into their buckets or take them out; a bucket without any is gone."""
    for image, row in zip(ids.tolist(), keys.tolist(), strict=True):
        for place in enumerate(row):
            if remove:
                buckets[place].discard(image)
                if not buckets[place]:
                    del buckets[place]
            else:
                buckets[place].add(image)


@pytest.mark.parametrize("kind", FAMILIES)
@examples(40)
@given(collections(), st.sampled_from(("cosine", "euclidean")), st.integers(1, 3), st.data())
def test_insertions_and_removals_in_any_order_leave_what_is_left(
    kind: str, vectors: FloatArray, metric: Metric, tables: int, data: st.DataObject
) -> None:
    family = small(kind, vectors[: len(vectors) // 2 + 1], metric, tables=tables, cells=8, width=0.7)
    buckets: Buckets = defaultdict(set)
    inside: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12), label="changes")):
        changed = np.array(
            data.draw(st.lists(st.integers(0, len(vectors) - 1), min_size=1, max_size=9, unique=True), label="rows")
        )
        # Another worker, which has read the family from the store.
        worker = loads(dumps(family)) if data.draw(st.booleans(), label="another worker") else family
        remove = data.draw(st.booleans(), label="remove")
        change(buckets, changed, worker.keys(vectors[changed]), remove=remove)
        inside = inside - set(changed.tolist()) if remove else inside | set(changed.tolist())
    remaining = np.array(sorted(inside), dtype=np.int64)
    fresh: Buckets = defaultdict(set)
    change(fresh, remaining, family.keys(vectors[remaining]), remove=False)
    assert buckets == fresh


@pytest.mark.parametrize("kind", FAMILIES)
def test_ten_thousand_changes_leave_what_is_left(kind: str) -> None:
    vectors = clustered(1, 1500)
    vectors[100:200] = vectors[:100]
    arguments: dict[str, Any] = {"tables": 3, "cells": 60, "hashes": 10, "width": 1.0, "probes": 1}
    family = fit(vectors[:700], seed=0, family=kind, **arguments)
    rng = np.random.default_rng(0)
    buckets: Buckets = defaultdict(set)
    inside: set[int] = set()
    changes = 0
    while changes < 10_000:
        changed = rng.choice(1500, rng.integers(1, 90), replace=False)
        remove = bool(rng.random() < 0.45)
        change(buckets, changed, family.keys(vectors[changed]), remove=remove)
        inside = inside - set(changed.tolist()) if remove else inside | set(changed.tolist())
        changes += len(changed)
    remaining = np.array(sorted(inside))
    assert 200 < len(remaining) < 1400
    fresh: Buckets = defaultdict(set)
    change(fresh, remaining, family.keys(vectors)[remaining], remove=False)
    assert buckets == fresh
    assert sum(map(len, buckets.values())) == 3 * len(remaining)
