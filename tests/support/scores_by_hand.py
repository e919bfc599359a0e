"""Scores of an evaluation, computed by their definitions from the vectors that the store holds."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shared.evaluation.rows import rows_of
from shared.storage import evaluation_layout, layout, segments
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from tests.support.stack import Stack

NAME, K = "evaluated", 5
Vectors = npt.NDArray[np.float64]


class Kept:
    """What the store has of a collection and of the queries: for a computation of one's own."""

    def __init__(self, stack: Stack) -> None:
        self.store = ObjectStore.from_settings(stack.settings)
        catalog = Catalog(self.store)
        self.collection = catalog.get(NAME)
        ids, vectors, labels = [], [], []
        for name in catalog.segments(NAME):
            rows = segments.unpack(self.store.get(layout.segment_key(NAME, name)))
            ids += segments.ids_of(rows).tolist()
            vectors.append(segments.vectors_of(rows))
            labels += rows.column("label").to_pylist()
        order = np.argsort(ids)
        self.ids = np.array(ids)[order]
        self.vectors: Vectors = np.concatenate(vectors)[order].astype(np.float64)
        self.labels = np.array(labels, dtype=object)[order]

    def of_query(self, row: dict[str, Any]) -> Vectors:
        if row["in_collection"]:
            found: Vectors = self.vectors[self.ids == row["id"]][0]
            return found
        key = evaluation_layout.embedding_key(self.collection.model, self.collection.version, row["digest"])
        return np.frombuffer(self.store.get(key), "<f4").astype(np.float64)

    def distances(self, query: Vectors, metric: str) -> Vectors:
        if metric == "euclidean":
            return np.asarray(np.linalg.norm(self.vectors - query, axis=1))
        return np.asarray(
            1 - self.vectors @ query / np.linalg.norm(self.vectors, axis=1) / np.linalg.norm(query), dtype=np.float64
        )


def by_hand(kept: Kept, row: dict[str, Any], run: dict[str, Any], among: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores of a query by their definitions, of the images among which it is searched."""
    distances = kept.distances(kept.of_query(row), run["metric"])
    able = kept.ids != row["id"]
    if not run["distractors"]:
        able &= kept.labels != None  # noqa: E711 -- an array
    near = np.sort(distances[able])[:K]
    found = np.flatnonzero(able & among)
    best = found[np.lexsort((kept.ids[found], distances[found]))][:K]
    good = kept.labels[best] == row["label"]
    relevant = int((kept.labels[kept.ids != row["id"]] == row["label"]).sum())
    precisions = [good[: place + 1].sum() / (place + 1) for place in range(len(best)) if good[place]]
    scores = 1 - distances[best] if run["metric"] == "cosine" else 1 / (1 + distances[best])
    return {
        "p_at_k": good.sum() / K,
        "ap_at_k": sum(precisions) / min(K, relevant),
        "recall_at_k": float((distances[best] <= near[-1] + 1e-9).sum() / K),
        "candidates": float(len(found)),
        "mean_distance": float(distances[best].mean()) if len(best) else np.nan,
        "mean_similarity": float(scores.mean()) if len(best) else np.nan,
    }


def mean_of(values: list[float]) -> float | None:
    """Return the mean of what there is; a query that found nothing has no distance."""
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else None


def assert_by_hand(kept: Kept, run: dict[str, Any], rows: list[dict[str, Any]], among: Any) -> None:
    """Check a run's scores against those by hand; `among` gives the candidates of a query."""
    figures = [by_hand(kept, row, run, among(row)) for row in rows]
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        assert run[name] == pytest.approx(mean_of(values), abs=1e-6), (run["id"], name)
        if name in rows[0]:
            assert [row[name] for row in rows] == pytest.approx(values, abs=1e-6)
        for label, its in run["per_class"].items():
            mine = [value for value, row in zip(values, rows, strict=True) if row["label"] == label]
            assert its[name] == pytest.approx(mean_of(mine), abs=1e-6)
            assert its["queries"] == len(mine)
    for name in ("p_at_k", "ap_at_k", "recall_at_k"):
        of_classes = [its[name] for its in run["per_class"].values()]
        assert run["macro"][name] == pytest.approx(np.mean(of_classes), abs=1e-9)
        low, high = run["interval"][name]
        assert low - 1e-9 <= run[name] <= high + 1e-9
    hits = sum(sum(row.values()) for row in run["confusion"].values())
    assert hits == sum(len(row["hits"]) for row in rows)


def rows_by_run(store: ObjectStore, evaluation: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(store, NAME, evaluation).to_pylist():
        found.setdefault(row["run"], []).append(row)
    return found
