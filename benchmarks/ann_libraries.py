"""Other libraries' indexes, as their users would set them up: FAISS, hnswlib, usearch, Voyager, ScaNN and more.

Each library is imported when its index is built, and skipped where it is not installed or does not work. Those with a
graph have 16 links a vector and 100 candidates while it is built; lists and trees are as many as their makers advise.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from benchmarks.dataset import K
from benchmarks.runner import Skipped
from benchmarks.simulation import Rows, Vectors

_LINKS = 16
_BUILD_CANDIDATES = 100
_SEED = 0


def _library(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise Skipped(f"{package} is not installed: {error}") from error


def installed(package: str) -> str:
    """Return the version of a package, empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class _AnnLibrary:
    """What most libraries have in common: they do not tell what they compare, and one call takes many queries."""

    effort_name = ""
    values: tuple[int, ...] = ()
    _threads = 1
    _effort = 0

    def efforts(self) -> Sequence[int]:
        return self.values

    def set_effort(self, effort: int, threads: int) -> None:
        self._effort, self._threads = effort, threads

    def search(self, query: Vectors) -> Rows:
        found: Rows = self.search_batch(query[None])[0]
        return found

    def search_batch(self, queries: Vectors) -> Rows:
        raise NotImplementedError

    def mean_compared(self, queries: Vectors) -> float | None:  # noqa: ARG002 -- as the protocol has it
        return None

    def mean_lookups(self, queries: Vectors) -> float | None:  # noqa: ARG002
        return None

    def outside_bytes(self) -> int | None:
        return None


class _Faiss(_AnnLibrary):
    """What FAISS's indexes have in common."""

    def __init__(self) -> None:
        self._faiss: Any = None
        self._index: Any = None

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        self._faiss = _library("faiss", "faiss-cpu")
        self._faiss.omp_set_num_threads(threads)
        return self._fill(vectors)

    def _fill(self, vectors: Vectors) -> dict[str, Any]:
        raise NotImplementedError

    def set_effort(self, effort: int, threads: int) -> None:
        super().set_effort(effort, threads)
        self._faiss.omp_set_num_threads(threads)

    def search_batch(self, queries: Vectors) -> Rows:
        return np.asarray(self._index.search(queries, K)[1])


class FaissFlat(_Faiss):
    """The exact scan. Single queries use `cores`."""

    effort_name = "all"
    values = (1,)

    def __init__(self, cores: int = 1) -> None:
        super().__init__()
        self._min_threads = cores

    def _fill(self, vectors: Vectors) -> dict[str, Any]:
        self._index = self._faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)
        return {}

    def set_effort(self, effort: int, threads: int) -> None:
        super().set_effort(effort, max(self._min_threads, threads))

    def mean_compared(self, queries: Vectors) -> float | None:  # noqa: ARG002
        return float(self._index.ntotal)


class FaissIvf(_Faiss):
    """k-means cells, 4 √n of them."""

    effort_name = "nprobe"
    values = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def _fill(self, vectors: Vectors) -> dict[str, Any]:
        cells = min(4096, max(16, round(4 * len(vectors) ** 0.5)))
        self._quantizer = self._faiss.IndexFlatIP(vectors.shape[1])
        self._index = self._faiss.IndexIVFFlat(
            self._quantizer, vectors.shape[1], cells, self._faiss.METRIC_INNER_PRODUCT
        )
        self._index.cp.niter, self._index.cp.seed = 10, _SEED
        self._index.cp.min_points_per_centroid, self._index.cp.max_points_per_centroid = 1, 64
        self._index.train(vectors)
        self._index.add(vectors)
        self._sizes = np.array([self._index.invlists.list_size(cell) for cell in range(cells)])
        return {"cells": cells}

    def efforts(self) -> Sequence[int]:
        return [value for value in self.values if value <= len(self._sizes)]

    def set_effort(self, effort: int, threads: int) -> None:
        super().set_effort(effort, threads)
        self._index.nprobe = effort

    def mean_compared(self, queries: Vectors) -> float | None:
        return float(self._sizes[self._quantizer.search(queries, self._effort)[1]].sum(axis=1).mean())

    def mean_lookups(self, queries: Vectors) -> float | None:  # noqa: ARG002
        return float(self._effort)


class FaissLsh(_Faiss):
    """512 random hyperplanes, whose Hamming distance ranks all vectors; the first are ranked again in full."""

    effort_name = "re-ranked"
    values = (10, 30, 100, 300, 1000, 3000, 10_000)

    def _fill(self, vectors: Vectors) -> dict[str, Any]:
        self._codes = self._faiss.IndexLSH(vectors.shape[1], 512, True, True)  # noqa: FBT003
        self._codes.train(vectors[:: max(1, len(vectors) // 20_000)])
        self._codes.add(vectors)
        self._vectors = vectors
        return {"bits": 512}

    def efforts(self) -> Sequence[int]:
        return [value for value in self.values if value <= len(self._vectors) // 2]

    def search_batch(self, queries: Vectors) -> Rows:
        first = self._codes.search(queries, self._effort)[1]
        scores = np.stack([self._vectors[rows] @ query for rows, query in zip(first, queries, strict=True)])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        return np.asarray(np.take_along_axis(first, best, axis=1))

    def mean_compared(self, queries: Vectors) -> float | None:  # noqa: ARG002
        return float(self._effort)


class FaissHnsw(_Faiss):
    """A hierarchical navigable small-world graph."""

    effort_name = "efSearch"
    values = (16, 32, 64, 128, 256, 512)

    def _fill(self, vectors: Vectors) -> dict[str, Any]:
        self._index = self._faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, self._faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = _BUILD_CANDIDATES
        self._index.add(vectors)
        return {}

    def set_effort(self, effort: int, threads: int) -> None:
        super().set_effort(effort, threads)
        self._index.hnsw.efSearch = effort

    def mean_compared(self, queries: Vectors) -> float | None:
        statistics = self._faiss.cvar.hnsw_stats
        statistics.reset()
        self._index.search(queries, K)
        return float(statistics.ndis) / len(queries)


class Hnswlib(_AnnLibrary):
    """The HNSW graph by its authors."""

    effort_name = "ef"
    values = FaissHnsw.values

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        self._index = _library("hnswlib", "hnswlib").Index("ip", vectors.shape[1])
        self._index.init_index(len(vectors), M=_LINKS, ef_construction=_BUILD_CANDIDATES, random_seed=_SEED)
        self._index.add_items(vectors, num_threads=threads)
        return {}

    def set_effort(self, effort: int, threads: int) -> None:
        super().set_effort(effort, threads)
        self._index.set_ef(effort)

    def search_batch(self, queries: Vectors) -> Rows:
        return np.asarray(self._index.knn_query(queries, K, num_threads=self._threads)[0]).astype(np.int64)


class Usearch(_AnnLibrary):
    """Unum's HNSW graph, which tells how many vectors it compared."""

    effort_name = "expansion"
    values = FaissHnsw.values

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        make_index = _library("usearch.index", "usearch").Index
        self._index = make_index(
            ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=_LINKS, expansion_add=_BUILD_CANDIDATES
        )
        self._index.add(np.arange(len(vectors)), np.ascontiguousarray(vectors), threads=threads)
        return {}

    def set_effort(self, effort: int, threads: int) -> None:
        super().set_effort(effort, threads)
        self._index.expansion_search = effort

    def search(self, query: Vectors) -> Rows:
        return np.asarray(self._index.search(query, K, threads=1).keys, dtype=np.int64)

    def search_batch(self, queries: Vectors) -> Rows:
        found = self._index.search(queries, K, threads=self._threads)
        rows = np.asarray(found.keys, dtype=np.int64)
        rows[np.arange(K) >= np.asarray(found.counts)[:, None]] = -1
        return rows

    def mean_compared(self, queries: Vectors) -> float | None:
        return float(self._index.search(queries, K, threads=1).computed_distances) / len(queries)


class Voyager(_AnnLibrary):
    """Spotify's HNSW graph."""

    effort_name = "ef"
    values = FaissHnsw.values

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        library = _library("voyager", "voyager")
        self._index = library.Index(
            library.Space.InnerProduct,
            num_dimensions=vectors.shape[1],
            M=_LINKS,
            ef_construction=_BUILD_CANDIDATES,
            random_seed=_SEED + 1,
            max_elements=len(vectors),
        )
        self._index.add_items(np.array(vectors), num_threads=threads)  # it takes no array that is read-only
        return {}

    def search(self, query: Vectors) -> Rows:
        return np.asarray(self._index.query(query, K, query_ef=self._effort)[0]).astype(np.int64)

    def search_batch(self, queries: Vectors) -> Rows:
        found = self._index.query(queries, K, num_threads=self._threads, query_ef=self._effort)[0]
        return np.asarray(found).astype(np.int64)


class Scann(_AnnLibrary):
    """Google's cells of 4-bit codes, the first 200 ranked again in full."""

    effort_name = "leaves"
    values = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        # With TensorFlow at hand it loads operators made for another version of that, and fails.
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
        builder = _library("scann", "scann").scann_ops_pybind.builder(vectors, K, "dot_product")
        self._leaves = max(16, round(2 * len(vectors) ** 0.5))
        self._index = (
            builder.set_n_training_threads(threads)
            .tree(self._leaves, 16, training_sample_size=min(len(vectors), 200_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(200)
            .build()
        )
        self._index.set_num_threads(threads)
        return {"leaves": self._leaves}

    def efforts(self) -> Sequence[int]:
        return [value for value in self.values if value <= self._leaves]

    def search(self, query: Vectors) -> Rows:
        return np.asarray(self._index.search(query, leaves_to_search=self._effort)[0]).astype(np.int64)

    def search_batch(self, queries: Vectors) -> Rows:
        call = self._index.search_batched_parallel if self._threads > 1 else self._index.search_batched
        return np.asarray(call(queries, leaves_to_search=self._effort)[0]).astype(np.int64)

    def mean_lookups(self, queries: Vectors) -> float | None:  # noqa: ARG002
        return float(self._effort)


class Pynndescent(_AnnLibrary):
    """A graph of neighbours found by their neighbours; the effort is epsilon, in hundredths."""

    effort_name = "epsilon/100"
    values = (0, 5, 10, 15, 20, 30, 40)

    def __init__(self) -> None:
        self._make_index = _library("pynndescent", "pynndescent").NNDescent
        self._build(np.random.default_rng(_SEED).standard_normal((500, 32), dtype=np.float32), 1)  # compiles

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        self._build(vectors, threads)
        return {}

    def _build(self, vectors: Vectors, threads: int) -> None:
        self._index = self._make_index(
            np.ascontiguousarray(vectors), metric="dot", n_neighbors=30, n_jobs=threads, random_state=_SEED
        )
        self._index.prepare()
        self._index.query(vectors[:2], k=K)

    def search_batch(self, queries: Vectors) -> Rows:
        return np.asarray(self._index.query(queries, k=K, epsilon=self._effort / 100)[0]).astype(np.int64)


class Annoy(_AnnLibrary):
    """Spotify's older forest of random splits, 50 trees; the effort is how many nodes are looked into."""

    effort_name = "search_k"
    values = (500, 2000, 8000, 32_000, 128_000)

    def build(self, vectors: Vectors, threads: int) -> dict[str, Any]:
        self._index = _library("annoy", "annoy").AnnoyIndex(vectors.shape[1], "dot")
        self._index.set_seed(_SEED + 1)
        for row, vector in enumerate(vectors):
            self._index.add_item(row, vector)
        self._index.build(50, n_jobs=threads)
        return {"trees": 50}

    def search(self, query: Vectors) -> Rows:
        return np.array(self._index.get_nns_by_vector(query, K, search_k=self._effort), dtype=np.int64)

    def search_batch(self, queries: Vectors) -> Rows:
        rows = np.full((len(queries), K), -1, dtype=np.int64)
        for place, query in enumerate(queries):
            found = self.search(query)
            rows[place, : len(found)] = found
        return rows


ANN_LIBRARIES: dict[str, tuple[str, str]] = {
    "FAISS Flat": ("FaissFlat", "faiss-cpu"),
    "FAISS Flat, all cores": ("FaissFlat", "faiss-cpu"),
    "FAISS IVF": ("FaissIvf", "faiss-cpu"),
    "FAISS HNSW": ("FaissHnsw", "faiss-cpu"),
    "FAISS LSH": ("FaissLsh", "faiss-cpu"),
    "hnswlib": ("Hnswlib", "hnswlib"),
    "usearch": ("Usearch", "usearch"),
    "voyager": ("Voyager", "voyager"),
    "ScaNN": ("Scann", "scann"),
    "pynndescent": ("Pynndescent", "pynndescent"),
    "annoy": ("Annoy", "annoy"),
}
"""The indexes of other libraries by the names they are shown under: class here, and package."""


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries, of those that are installed."""
    packages = {package: installed(package) for _, package in ANN_LIBRARIES.values()}
    return {package: number for package, number in packages.items() if number}
