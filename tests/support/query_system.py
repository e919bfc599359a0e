"""A collection with an index, the searcher of the query service on it, and what a plain computation expects."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from services.query.replica.replica_sync import ReplicaSync
from services.query.search.search_query import SearchQuery, SearchResult
from services.query.search.searcher import Searcher
from shared import tuning
from shared.clients import Clients
from shared.hashing import HashFamily
from shared.images import DirectDecoder
from shared.index.generations import Generation
from shared.rpc.query import Metric, Mode
from shared.rpc.serving import ServingClient
from shared.state import Change, IndexState, State, connect
from shared.storage import layout
from shared.storage.catalog import Catalog, CurrentIndex
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.eventually import PATIENCE_S
from tests.support.processes import free_port
from tests.support.replicas import wait_for_index
from tests.support.rows import Vectors
from tests.support.servers import Servers

DIM = 16
COUNT = 300
METRICS: tuple[Metric, ...] = get_args(Metric)
MODES: tuple[Mode, ...] = get_args(Mode)
KINDS = ("normalised", "raw")


def make_vectors(kind: str) -> Vectors:
    vectors = rows.embeddings(range(COUNT), DIM)
    if kind == "raw":  # of many lengths, all in one corner as after a ReLU
        vectors = np.abs(vectors) * np.random.default_rng(3).lognormal(2, 0.7, (COUNT, 1)).astype(np.float32)
    vectors[200:230] = vectors[100]  # copies under other ids
    return vectors


@cache
def fit_once(kind: str, seed: int, options: tuple[tuple[str, Any], ...]) -> HashFamily:
    chosen = dict(options)
    if "hashes" in chosen:
        chosen["family"] = "p-stable"
    return tuning.fit(make_vectors(kind), seed=seed, **chosen)


class System:
    """A collection of `COUNT` images in five segments, two of which share images, with an index, and its searcher."""

    def __init__(
        self, servers: Servers, folder: Path, kind: str, *, exact_below: int = 0, index_url: str | None = None
    ) -> None:
        self._kind, self.vectors = kind, make_vectors(kind)
        self.index = connect(index_url or servers.settings.index_url.get_secret_value(), retries=0)
        self.catalog = Catalog(ObjectStore.from_settings(servers.settings))
        self.state = State.of(self.index)
        self.changes, self.buckets = self.state.changes, self.state.buckets
        self.clients = Clients(
            store=self.catalog.store,
            state=self.state,
            connect_model=lambda model, version: ServingClient(f"127.0.0.1:{free_port()}", model, version=version),
        )
        self.collection = self.catalog.create("art", model="lite", version=1, dim=DIM)
        self.state.index_states.set("art", IndexState())
        for start in range(0, COUNT, 60):
            self.put(f"s{start}", range(max(0, start - 5), start + 60))
        self.replica_sync = ReplicaSync(self.catalog, self.state, folder)
        self.searcher = Searcher(self.clients, self.replica_sync, decoder=DirectDecoder(), exact_below=exact_below)
        self.replica_sync.start()
        assert self.replica_sync.listed.wait(PATIENCE_S)
        self.wait_for_index()

    def wait_for_index(self) -> None:
        """Wait until the index answers, and is known to be whole."""
        wait_for_index(self.replica_sync)

    def put(self, segment: str, numbers: Sequence[int]) -> None:
        data = rows.segment(numbers, self.collection, self.vectors[list(numbers)])
        self.catalog.store.put(layout.segment_key("art", segment), data)
        self.state.claims.claim("art", segment, rows.ids(numbers))

    def fit(self, number: int, **options: Any) -> Generation:
        """Make an index generation with every image in it, and the one in use."""
        family = fit_once(self._kind, number, tuple(options.items()))
        generation = Generation(self.collection, number, family)
        generation.save(self.catalog.store)
        images = np.repeat(rows.ids(range(COUNT)), family.tables)
        self.buckets.add(generation.buckets(self.vectors), images.tolist())
        self.state.index_states.set("art", IndexState(number, 0, COUNT))
        self.catalog.set_current_index("art", CurrentIndex(number, COUNT))
        self.changes.announce(Change("art", "index"))
        return generation

    def search(self, **wanted: object) -> SearchResult:
        return self.searcher.search(SearchQuery(collection="art", **wanted))[0]  # type: ignore[arg-type]

    def expected(self, query: Vectors, metric: Metric, numbers: Sequence[int], k: int) -> list[tuple[int, float]]:
        """Return ids and distances of the nearest of these images, ties by id: plainly, in float64."""
        points, target = self.vectors[list(numbers)].astype(np.float64), query.astype(np.float64)
        if metric == "cosine":
            distances = 1 - points @ target / (np.linalg.norm(points, axis=1) * np.linalg.norm(target))
        else:
            distances = np.linalg.norm(points - target, axis=1)
        pairs = zip(np.round(distances, 12).tolist(), rows.ids(numbers), strict=True)
        return [(image, distance) for distance, image in sorted(pairs)[:k]]


# Slots so wide, and hashes so few, that the probes of a table are all its buckets.
EVERY_BUCKET = {"tables": 3, "hashes": 2, "width": 4.0, "probes": 9}
EVERY_CELL = {"family": "voronoi", "tables": 2, "cells": 6, "probes": 6}

MakeSystem = Callable[..., System]


def hits(found: SearchResult) -> list[tuple[int, float]]:
    return [(hit.image_id, round(hit.distance, 12) + 0.0) for hit in found.hits]


def assert_same(found: SearchResult, wanted: Sequence[tuple[int, float]]) -> None:
    assert [image for image, _ in hits(found)] == [image for image, _ in wanted]
    assert [distance for _, distance in hits(found)] == pytest.approx([distance for _, distance in wanted], abs=2e-12)


NUMBER_OF = {rows.image_id(number): number for number in range(COUNT)}


def let_through(wanted: dict[str, Any]) -> list[int]:
    """Return the numbers of the images that pass the filters, plainly."""
    labels, among = wanted.get("labels", ()), wanted.get("among")
    return [
        number
        for number in range(COUNT)
        if (not labels or rows.entry(number).label in labels) and (among is None or rows.image_id(number) in among)
    ]
