"""The vectors that indexes are measured on, in files, so that a process of its own can map them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.nearest import keep_least
from benchmarks.simulation import Rows, StoredVectors, Vectors, blocks
from shared.evaluation.retrieval_metrics import recall_at_k

K = 10
_BLOCK = 16_384  # vectors compared with all queries at a time
_TIE = 2e-6  # similarities in float32 that differ by less are equal: which of them comes tenth is chance


@dataclass(frozen=True)
class Dataset:
    """Vectors and queries in files, and the similarity of each query to its 10th nearest.

    The files lie in a folder of its own. The vectors may be the first of a file that other datasets share.
    """

    name: str
    folder: Path

    @classmethod
    def write(cls, name: str, folder: Path, vectors: Vectors, queries: Vectors) -> "Dataset":
        """Write vectors and queries, float32 of length 1, and compare each with each."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", vectors)
        return cls.first_of(folder / "vectors.npy", len(vectors), name, folder, queries)

    @classmethod
    def first_of(cls, file: Path, count: int, name: str, folder: Path, queries: Vectors) -> "Dataset":
        """Make the dataset of the first vectors of a .npy file, float32 or float16, and compare each with each."""
        folder.mkdir(parents=True, exist_ok=True)
        place = {"file": str(file.absolute()), "count": count}
        (folder / "place.json").write_text(json.dumps(place), encoding="utf-8")
        np.save(folder / "queries.npy", queries)
        dataset = cls(name, folder)
        np.save(folder / "tenth.npy", tenth_similarity(dataset.stored, queries))
        return dataset

    @property
    def stored(self) -> StoredVectors:
        """The vectors as they are stored, float32 or float16 [n, dim], mapped from their file."""
        place = json.loads((self.folder / "place.json").read_text(encoding="utf-8"))
        vectors: StoredVectors = np.asarray(np.load(place["file"], mmap_mode="r"))[: place["count"]]
        return vectors

    @property
    def vectors(self) -> Vectors:
        """The vectors, float32 [n, dim]: mapped from their file, or in memory if they are stored as float16."""
        return self.stored.astype(np.float32, copy=False)

    @property
    def queries(self) -> Vectors:
        """The queries, float32 [q, dim]."""
        return np.asarray(np.load(self.folder / "queries.npy"))

    def recall(self, rows: Rows) -> float:
        """Return the recall@10 of answers, int64 [q, 10]: hits are as near as the 10th nearest, whichever that is."""
        vectors, queries, tenth = self.stored, self.queries, np.load(self.folder / "tenth.npy")
        distances = np.full(rows.shape, np.inf)
        for query, answer, answer_distances in zip(queries, rows, distances, strict=True):
            distinct = np.unique(answer[answer >= 0])
            answer_distances[: len(distinct)] = -(vectors[distinct].astype(np.float32) @ query)
        count = np.full(len(queries), min(K, len(vectors)))
        return float(recall_at_k(distances, -tenth, count, tie=_TIE).mean())


def tenth_similarity(vectors: StoredVectors, queries: Vectors) -> npt.NDArray[np.float32]:
    """Return each query's inner product with its 10th nearest vector, or its last: float32 [q], by an exact scan.

    Memory is bounded, whatever their number.
    """
    least = np.full((len(queries), K), np.inf, dtype=np.float32)
    for block in blocks(vectors, _BLOCK):
        keep_least(least, -(queries @ block.T))
    least.sort(axis=1)
    return np.asarray(-least[:, min(K, len(vectors)) - 1])
