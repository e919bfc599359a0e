"""Two small models, and workers and a query service in this process, for tests of a change of model."""

import io
import itertools
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from services.embedder.embedder import Embedder, Options
from services.query.replica.replica_sync import ReplicaSync
from services.query.search.searcher import Searcher
from shared.clients import Clients
from shared.images import DirectDecoder, decode
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED
from shared.model_config import MANIFEST
from shared.rpc.serving import ServingClient
from shared.state import State, connect
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from tests.support.eventually import PATIENCE_S
from tests.support.indexing import parts_of
from tests.support.model_servers import ModelServerProcess, serving
from tests.support.servers import Servers
from tests.support.stack import exported_models

SIZE = 16
DIMS = {"old": 6, "new": 9}
IMAGES = 70  # three batches


@contextmanager
def serving_both(models: Path) -> Iterator[ModelServerProcess]:
    """Serve the models `old` and `new`, whose embeddings differ in length, from a folder."""
    for seed, (name, dim) in enumerate(DIMS.items()):
        save(models / name / "1", dim, seed)
    with serving(models, *DIMS) as running:
        yield running


def save(folder: Path, dim: int, seed: int) -> None:
    """Write a SavedModel that embeds images of 16 px by a random projection of their pixels, at length 1."""
    module = tf.Module()
    weights = np.random.default_rng(seed).standard_normal((SIZE * SIZE * 3, dim)).astype(np.float32)
    module.weights = tf.Variable(weights)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="images")]
    )
    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        flat = tf.reshape(tf.cast(images, tf.float32) - 127.0, [-1, SIZE * SIZE * 3])
        return {"embeddings": tf.math.l2_normalize(tf.linalg.matmul(flat, module.weights), axis=1)}

    module.embed = embed
    tf.saved_model.save(module, str(folder), signatures={"serving_default": embed})


def models_with_a_small_one(folder: Path) -> Path:
    """Return a folder of the default model and of ``small``, which takes next to no time for an image."""
    shutil.copytree(exported_models(), folder)
    save(folder / "small" / "1", 16, 0)
    manifest = folder / "small" / "1" / MANIFEST  # without which no version is served
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text("{}", "utf-8")
    return folder


def picture(number: int) -> bytes:
    """Return a PNG of smooth random colours, different for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


PICTURES = {number: picture(number) for number in range(2 * IMAGES)}
IDS = {number: layout.image_id(layout.digest_of(data)) for number, data in PICTURES.items()}


def item(number: int, label: str = "a", pictures: Mapping[int, bytes] = PICTURES) -> BatchImage:
    return BatchImage(layout.digest_of(pictures[number]), f"{number}.png", label, len(pictures[number]))


class Line:
    """Delivers the messages of the queues one by one to real workers; `killed` says how long each worker lives."""

    def __init__(self) -> None:
        self.later: deque[Callable[[], None]] = deque()
        self.embedder: Any = None
        self.indexer: Any = None
        self.maintenance: Any = None
        self.held: list[Callable[[], None]] | None = None  # segments that were written and wait to be indexed
        self.before_embed: Callable[[], None] = lambda: None
        self.new_batches = 0  # of other jobs, which wait for an embedder

    def embed(self, *, job: str, batch: int, collection: str, items: Sequence[BatchImage], **more: Any) -> None:
        def run() -> None:
            self.embedder.embed(job=job, batch=batch, collection=collection, items=items, **more)

        if "set_name" in more:  # the change of model waits for it
            self.before_embed()
            run()
        else:
            self.later.append(run)

    def index(self, *, set_name: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        def run() -> None:
            self.indexer.segments.index(set_name=set_name, segment=segment, job=job, batch=batch, outcome=outcome)

        if self.held is not None and set_name == "art":
            self.held.append(run)
        else:
            run()

    def change_model(self, **message: Any) -> None:
        self.later.append(lambda: self.maintenance.model_changer.change(**message))

    def compact(self, *, collection: str, job: str | None = None) -> None:
        self.later.append(lambda: self.maintenance.compactor.compact(collection=collection, job=job))

    def make_regions(self, **message: Any) -> None:
        self.later.append(lambda: self.maintenance.region_maker.make(**message))

    def rename(self, **message: Any) -> None:
        self.later.append(lambda: self.maintenance.renamer.rename(**message))

    def purge(self, **message: Any) -> None:
        self.later.append(lambda: self.maintenance.purger.purge(**message))

    def rewrite_journal(self) -> None:
        """Do nothing: there is no broker whose journal remembers a message."""

    def maintain(self, *, collection: str, job: str | None = None) -> None:
        self.later.append(lambda: self.maintenance.tuner.maintain(collection=collection, job=job))

    def waiting(self) -> dict[str, int]:
        return {EMBED: self.new_batches}

    def run(self) -> None:
        """Deliver until nothing waits."""
        while self.later:
            self.later.popleft()()


class System:
    """Workers and a query service in this process, on real servers."""

    def __init__(
        self, servers: Servers, model_server: ModelServerProcess, pictures: Mapping[int, bytes] = PICTURES
    ) -> None:
        self.pictures = pictures
        self.settings = servers.settings
        self.line = Line()
        self.parts = parts_of(self.settings)
        self.parts.queue = self.line
        self.connect: Callable[[str, int | None], ServingClient] = lambda model, version: ServingClient(
            model_server.target, model, version=version
        )
        self.parts.connect_model = self.connect
        self.line.embedder = Embedder(
            self.parts.clients(),
            Options(model=("old", None), decoder=DirectDecoder(), program="test"),
        )
        self.line.indexer, self.line.maintenance = self.parts.indexer(), self.parts.maintenance()
        self.catalog, self.state, self.jobs = self.parts.catalog, self.parts.state, self.parts.jobs
        self._numbers = itertools.count()

    def add(self, numbers: Sequence[int], label: str = "a") -> str:
        """Add images in batches of 32 as one job; returns the job."""
        job = f"job{next(self._numbers):04}"
        batches = [numbers[start : start + 32] for start in range(0, len(numbers), 32)]
        self.jobs.create(job, "art")
        self.jobs.extend(job, batches=len(batches), total=len(numbers), closed=True)
        for batch, some in enumerate(batches):
            for number in some:
                data = self.pictures[number]
                self.parts.store.put(layout.original_key(layout.digest_of(data)), data)
            items = [item(number, label, self.pictures) for number in some]
            self.line.embedder.embed(job=job, batch=batch, collection="art", items=items)
        return job

    def delete(self, numbers: Sequence[int], *, purge: bool = False, job: str = "") -> str:
        """Delete images as a job; returns the job."""
        job = job or f"del{next(self._numbers):04}"
        self.jobs.create(job, "art", kind="delete")
        image_ids = [layout.image_id(layout.digest_of(self.pictures[number])) for number in numbers]
        self.line.indexer.deletion.delete(job=job, collection="art", image_ids=image_ids, purge=purge)
        return job

    def begin(self, model: str = "new", version: int | None = None, job: str = "change") -> str:
        """Begin a change of model; `line.run` does it."""
        self.jobs.create(job, "art", kind="change-model")
        self.line.change_model(collection="art", job=job, model=model, version=version)
        return job

    def change(self, model: str = "new", job: str = "change") -> None:
        self.begin(model, job=job)
        self.line.run()

    def embeddings(self, model: str, numbers: Sequence[int]) -> Any:
        """Return the embeddings of images, float32 [n, dim], straight from the model server."""
        pixels = np.stack([decode(PICTURES[number], size=SIZE)[0] for number in numbers])
        with self.connect(model, 1) as serving:
            return serving.embed(pixels)

    def assert_moved(self, numbers: Sequence[int], labels: dict[int, str] | None = None, model: str = "new") -> None:
        """Check that the collection has exactly these images with a model's embeddings, and nothing else is there."""
        used = self.catalog.get("art")
        assert (used.model, used.version, used.dim) == (model, 1, DIMS[model])
        found: dict[int, Any] = {}
        deleted = self.catalog.tombstones(used.name)
        for segment in self.catalog.segments(used.name):
            rows = segments.unpack(self.parts.store.get(layout.segment_key(used.name, segment)), verify=True)
            vectors = segments.vectors_of(rows)
            for row, image in enumerate(segments.ids_of(rows).tolist()):
                if (segment, image) not in deleted:
                    assert image not in found
                    found[image] = (vectors[row], segments.entry_of(rows, row))
        assert set(found) == {IDS[number] for number in numbers}
        wanted = self.embeddings(model, numbers)
        np.testing.assert_allclose(np.stack([found[IDS[number]][0] for number in numbers]), wanted, atol=1e-5)
        originals = {entry.key for entry in self.parts.store.list(layout.original_key(""))}
        for number in numbers:
            assert found[IDS[number]][1].label == (labels or {}).get(number, "a")
            assert layout.original_key(layout.digest_of(PICTURES[number])) in originals
        assert self.state.claims.count(used.name) == len(numbers)
        self.assert_nothing_left(used)

    def assert_nothing_left(self, used: EmbeddingSet) -> None:
        """Check that store and Redis hold nothing of another embedding set than the one in use."""
        prefixes = ("vectors/", "tombstones/", "merges/", "indexes/", "embedding-sets/")
        keys = [entry.key for entry in self.parts.store.list("") if entry.key.startswith(prefixes)]
        assert {key.split("/")[1] for key in keys} == {used.name}
        tag = bytes.fromhex(used.tag)
        for key in self.parts.redis.scan_iter(count=1000):
            if key.startswith(b"b:"):
                assert key[2:6] == tag
            else:
                kind, _, name = key.decode().partition(":")
                assert kind not in {"pending-deletes", "failed", "model-change", "lock"}, key
                if kind in {"index", "claims", "indexed", "since-compaction"}:
                    assert name == used.name
        assert not self.state.indexed_segments.is_closed(used.name)


class Reader:
    """A query service's replica sync and searcher."""

    def __init__(self, system: System, folder: Path) -> None:
        index = connect(system.settings.index_url.get_secret_value())
        clients = Clients(store=system.parts.store, state=State.of(index), connect_model=system.connect)
        self.replica_sync = ReplicaSync(clients.catalog, clients.state, folder)
        self.searcher = Searcher(clients, self.replica_sync, decoder=DirectDecoder(), exact_below=10)
        self.replica_sync.start()
        assert self.replica_sync.listed.wait(PATIENCE_S)
