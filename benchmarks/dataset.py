"""The vectors that indexes are measured on, in files, so that a process of its own can map them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.simulation import Rows, Vectors
from shared.evaluation.retrieval_metrics import recall_at_k

K = 10
_BLOCK = 16_384  # vectors compared with all queries at a time
_TIE = 2e-6  # similarities in float32 that differ by less are equal: which of them comes tenth is chance


@dataclass(frozen=True)
class Dataset:
    """Vectors and queries in files of one folder, and the similarity of each query to its 10th nearest."""

    name: str
    folder: Path

    @classmethod
    def write(cls, name: str, folder: Path, vectors: Vectors, queries: Vectors) -> "Dataset":
        """Write vectors and queries, float32 of length 1, and compare each with each."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "tenth.npy", tenth_similarity(vectors, queries))
        return cls(name, folder)

    @property
    def vectors(self) -> Vectors:
        """The vectors, float32 [n, dim], mapped from their file."""
        return np.asarray(np.load(self.folder / "vectors.npy", mmap_mode="r"))

    @property
    def queries(self) -> Vectors:
        """The queries, float32 [q, dim]."""
        return np.asarray(np.load(self.folder / "queries.npy"))

    def recall(self, rows: Rows) -> float:
        """Return the recall@10 of answers, int64 [q, 10]: hits are as near as the 10th nearest, whichever that is."""
        queries, tenth = self.queries, np.load(self.folder / "tenth.npy")
        distances = np.full(rows.shape, np.inf)
        for query, answer, answer_distances in zip(queries, rows, distances, strict=True):
            distinct = np.unique(answer[answer >= 0])
            answer_distances[: len(distinct)] = -(self.vectors[distinct] @ query)
        count = np.full(len(queries), min(K, len(self.vectors)))
        return float(recall_at_k(distances, -tenth, count, tie=_TIE).mean())


def tenth_similarity(vectors: Vectors, queries: Vectors) -> npt.NDArray[np.float32]:
    """Return each query's inner product with its 10th nearest vector, or its last: float32 [q], by an exact scan."""
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        similarities = np.concatenate([best, queries @ vectors[start : start + _BLOCK].T], axis=1)
        best = np.partition(similarities, -K, axis=1)[:, -K:]
    best.sort(axis=1)
    return np.asarray(best[:, max(0, K - len(vectors))])
