"""What each layer around a search takes, beside the one below: the index in process, the query service, HTTP.

All search the same collection of simulated vectors by the same index, beside FAISS's exact scan of the same vectors.
"""

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.ann_libraries import FaissFlat
from benchmarks.committed_ratios import Ratio
from benchmarks.dataset import K
from benchmarks.end_to_end import Workers
from benchmarks.families import search_generation
from benchmarks.image_ids import ImageIds
from benchmarks.interleaving import Call, medians_in_turns
from benchmarks.searcher import COLLECTION, Searcher
from benchmarks.servers import Servers
from benchmarks.simulation import Vectors, simulate, unit
from shared.index.generations import Generation
from shared.messaging.messages import TuningRequest
from shared.rpc.query import MODES, SearchRequest
from shared.rpc.query.connecting import connect_query
from shared.schemas.urls import API
from shared.state import BucketStore
from shared.storage.catalog import EmbeddingSet

COUNT: Final = 20_000
DIM: Final = 128
_QUERIES: Final = 256
_ROWS: Final = 4096  # of a segment
_REPETITIONS, _EACH = 31, 30
FLAT, FAMILY, SERVICE, SERVICE_BY_ID, HTTP = "FAISS Flat", "family", "service", "service by id", "HTTP"


def measure_layers(*, folder: Path, seed: int = 0) -> list[Ratio]:
    """Start the servers in a folder, measure, and return the ratios.

    Raises:
        Skipped: FAISS is not installed.
    """
    vectors, queries = simulated_vectors(COUNT, seed=seed)
    flat = FaissFlat()
    flat.build(vectors, 1)
    flat.set_effort(1, 1)
    with searched_collection(folder, vectors, queries, seed=seed) as layers:
        calls = {FLAT: lambda number: flat.search(queries[number % len(queries)]), **layers}
        return ratios_of(medians_in_turns(calls, repetitions=_REPETITIONS, each=_EACH))


def ratios_of(times: Mapping[str, Sequence[float]]) -> list[Ratio]:
    """Return the ratios of the layers from the seconds of each repetition."""

    def over(upper: str, lower: str) -> list[float]:
        return [above / below for above, below in zip(times[upper], times[lower], strict=True)]

    return [
        Ratio("flat-to-family", "time of FAISS's exact scan / that of the index in process", over(FLAT, FAMILY)),
        Ratio("family-to-service", "time of the index in process / a search by gRPC", over(FAMILY, SERVICE)),
        Ratio("service-to-http", "time of a search by id by gRPC / by HTTP", over(SERVICE_BY_ID, HTTP)),
    ]


def simulated_vectors(count: int, *, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Return vectors like those of pictures in some classes, and queries: float32 [n, 128] of length 1."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, 24))
    latent = centres[rng.integers(len(centres), size=2000)] + 0.6 * rng.standard_normal((2000, 24))
    real = latent @ rng.standard_normal((24, DIM)) + 0.8 * rng.standard_normal((2000, DIM))
    simulated = simulate(unit(real.astype(np.float32)), count, _QUERIES, seed=seed)
    return simulated.vectors.astype(np.float32, copy=False), simulated.queries


def fill(workers: Workers, vectors: Vectors) -> EmbeddingSet:
    """Make the collection of the vectors, without an index."""
    embedding_set = workers.create_collection(vectors.shape[1])
    rows = range(len(vectors))
    names = workers.write(embedding_set, "first", vectors, rows, _ROWS)
    workers.index(embedding_set, names, rows, _ROWS)
    return embedding_set


@contextmanager
def searched_collection(
    folder: Path, vectors: Vectors, queries: Vectors, *, seed: int = 0
) -> Iterator[dict[str, Call]]:
    """Fill and tune a collection on servers of its own; yields what searches it, by the layer."""
    count = len(vectors)
    with Servers(folder, models=folder / "models") as servers:
        servers.start("valkey-index", "valkey-broker", "objects", "query", "web")
        workers = Workers(servers, seed=seed)
        embedding_set = fill(workers, vectors)
        workers.jobs.create("tune", COLLECTION, kind="tune")
        workers.maintenance.tuner.tune(collection=COLLECTION, job="tune", request=TuningRequest(), apply=True)
        image_ids = ImageIds(count)
        searcher = Searcher(servers.settings, queries, image_ids)
        searcher.wait_for_answer("lsh")
        searcher.wait_for_index()
        generation = _generation_in_use(workers, embedding_set)
        buckets, budget = BucketStore(workers.redis), generation.budget(count)
        with suppress(ImportError):
            import_module("threadpoolctl").threadpool_limits(1)
        address = servers.settings.web_listen
        page = http.client.HTTPConnection(address, timeout=60)
        with connect_query(servers.settings) as client:

            def query(number: int) -> Vectors:
                return np.asarray(queries[number % len(queries)])

            def image(number: int) -> int:
                return int(image_ids.ids[number % count])

            yield {
                FAMILY: lambda number: search_generation(
                    generation, buckets, vectors, image_ids, query(number), budget
                ),
                SERVICE: lambda number: searcher.search(client, query(number), "lsh"),
                SERVICE_BY_ID: lambda number: client.search(
                    SearchRequest(collection=COLLECTION, id=image(number), k=K, mode=MODES["lsh"])
                ),
                HTTP: lambda number: post_search(page, COLLECTION, image(number), "lsh"),
            }
        page.close()


def post_search(connection: http.client.HTTPConnection, collection: str, image: int, mode: str) -> bytes:
    """Search for an image by its id over a kept connection; returns the answer.

    Raises:
        RuntimeError: It is none.
    """
    body = json.dumps({"id": image, "k": K, "mode": mode})
    path = f"{API}/collections/{collection}/search"
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} is answered with {answer.status}: {data[:500]!r}")
    return data


def _generation_in_use(workers: Workers, embedding_set: EmbeddingSet) -> Generation:
    current = workers.catalog.current_index(embedding_set.name)
    if current is None:
        raise RuntimeError("no index was built")
    return Generation.load(workers.store, embedding_set, current.generation)
