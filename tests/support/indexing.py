"""The indexer's servers and the indexer on them, for tests of what it does: also of one that dies at some call."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.indexer.indexer import Indexer
from services.maintenance.maintenance import Maintenance
from shared.clients import ConnectModel
from shared.index.generations import Generation, collection_prefix, generation_of_bucket
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue
from shared.messaging.worker import WorkerClients
from shared.rpc.serving import ServingClient
from shared.settings import Settings
from shared.state import Client, IndexState, Jobs, State, connect
from shared.state.jobs import Kind
from shared.state.outcomes import Outcome
from shared.storage import layout
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support import rows

DIM = 8
SEED = 11


class Died(BaseException):
    """The process is gone; nothing but the end of the test catches it."""


class Mortal:
    """Passes every call on to a real part until a life is spent: the call after that dies, before or after its work."""

    def __init__(self, real: object, life: list[int]) -> None:
        self._real, self._life = real, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._spend()
            answer = found(*arguments, **options)
            self._spend()
            return answer

        return call

    def _spend(self) -> None:
        self._life[0] -= 1
        if self._life[0] == 0:
            raise Died


@dataclass
class Parts:
    """The servers' clients, and indexers and maintenance workers that use them.

    Most of what is stored are originals: `originals` is False where nobody reads them.
    """

    store: Any
    redis: Client
    queue: Any

    connect_model: ConnectModel = lambda model, version: ServingClient("127.0.0.1:1", model, version=version)
    originals: bool = True

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.store)
        self.state = State.of(self.redis)
        self.buckets, self.jobs, self.changes = self.state.buckets, self.state.jobs, self.state.changes

    def clients(self, life: list[int] | None = None) -> WorkerClients:
        """Return clients, which die at some call to a server if they are given a life of so many calls."""
        left = life or [0]
        return self.wrapped(lambda part: Mortal(part, left))

    def wrapped(self, wrap: Callable[[object], Any]) -> WorkerClients:
        """Return clients of which every part that sends something is wrapped."""
        return WorkerClients(
            store=wrap(self.store),
            state=State(**{name: wrap(part) for name, part in vars(self.state).items()}),
            queue=wrap(self.queue),
            connect_model=self.connect_model,
        )

    def indexer(self, life: list[int] | None = None, **options: Any) -> Indexer:
        """Return an indexer."""
        return Indexer.of(self.clients(life), **options)

    def maintenance(self, life: list[int] | None = None, **options: Any) -> Maintenance:
        """Return a maintenance worker."""
        return Maintenance.of(self.clients(life), new_seed=lambda: SEED, **options)

    # What an embedder does before

    def collection(self, name: str = "art") -> EmbeddingSet:
        self.state.index_states.set(name, IndexState())
        return self.catalog.create(name, model="lite", version=1, dim=DIM)

    def write(self, embedding_set: EmbeddingSet, segment: str, numbers: Sequence[int]) -> Outcome:
        """Store originals and a segment, claimed; returns the outcome that the indexer is to report."""
        for number in numbers if self.originals else ():
            self.store.put(layout.original_key(rows.digest(number)), b"%d" % number)
        self.state.claims.claim(embedding_set.collection, segment, rows.ids(numbers))
        self.store.put(layout.segment_key(embedding_set.collection, segment), rows.segment(numbers, embedding_set))
        return Outcome(dict(Counter(rows.entry(number).label or "" for number in numbers)))

    def job(self, name: str = "j", *, batches: int = 1, kind: Kind = "ingest") -> str:
        self.jobs.create(name, "art", kind=kind)
        if kind == "ingest":
            self.jobs.extend(name, batches=batches, total=0, closed=True)
        return name

    def add(self, embedding_set: EmbeddingSet, segment: str, numbers: Sequence[int]) -> None:
        """Write a segment and have it indexed."""
        outcome = self.write(embedding_set, segment, numbers)
        job = self.job(f"job-{embedding_set.collection}-{segment}")
        self.indexer().segments.index(
            set_name=embedding_set.collection, segment=segment, job=job, batch=0, outcome=outcome
        )

    def delete(self, collection: str, image_ids: Sequence[int], job: str = "delete") -> str:
        """Move images to the trash; returns the job."""
        self.job(job, kind="delete")
        self.indexer().deletion.delete(job=job, collection=collection, image_ids=image_ids)
        return job

    def purge(self, collection: str, image_ids: Sequence[int], job: str = "purge") -> str:
        """Remove images for good; returns the job."""
        self.job(job, kind="delete")
        self.indexer().deletion.delete(job=job, collection=collection, image_ids=image_ids, purge=True)
        sent = self.jobs.sent.get(job, 0)
        asked = sent.arguments["image_ids"] if sent else image_ids  # with the pages of documents
        had = sent.arguments.get("had") if sent else None
        self.maintenance().purger.purge(job=job, collection=collection, image_ids=asked, had=had)
        return job

    # What is to be seen after

    def held(self, embedding_set: EmbeddingSet) -> dict[bytes, set[int]]:
        """Return the buckets of all generations: name without the collection's tag and the generation, and members."""
        prefix = collection_prefix(embedding_set)
        names = [name for name in self.redis.scan_iter(count=2000) if name.startswith(prefix)]
        return {name[len(prefix) + 2 :]: {int(member) for member in self.redis.smembers(name)} for name in names}

    def generations(self, embedding_set: EmbeddingSet) -> set[int]:
        """Return the generations that have buckets."""
        prefix = collection_prefix(embedding_set)
        names = [name for name in self.redis.scan_iter(count=2000) if name.startswith(prefix)]
        return {generation_of_bucket(embedding_set, name) for name in names}

    def assert_indexed(self, embedding_set: EmbeddingSet, numbers: Sequence[int]) -> None:
        """Check that exactly these images are in the buckets of the generation in use, and in no others."""
        current = self.catalog.current_index(embedding_set.collection)
        assert current is not None
        state = self.state.index_states.get(embedding_set.collection)
        assert state == IndexState(current.generation, 0, current.trained_on)
        assert self.generations(embedding_set) == {current.generation}
        generation = Generation.load(self.store, embedding_set, current.generation)
        names = generation.buckets(rows.embeddings(numbers, DIM))
        tables = generation.family.tables
        wanted: dict[bytes, set[int]] = {}
        for place, name in enumerate(names):
            wanted.setdefault(name[len(generation.prefix) :], set()).add(rows.image_id(numbers[place // tables]))
        assert self.held(embedding_set) == wanted

    def snapshot(self, embedding_set: EmbeddingSet) -> dict[str, Any]:
        """Return all that the servers know of a collection, but for what may differ from run to run."""
        name = embedding_set.collection
        state = self.state.index_states.get(name)
        return {
            "state": state and (bool(state.active), state.building, state.trained_on),
            "buckets": self.held(embedding_set),
            "claims": self.redis.hgetall(f"claims:{name}"),
            "indexed": self.redis.smembers(f"indexed:{name}"),
            "objects": {item.key for item in self.store.list("") if layout.generation_of(item.key) is None},
            "jobs": {
                key: Jobs(self.redis).outcome(key.decode().removeprefix("job:"))
                for key in self.redis.scan_iter(match="job:*", count=1000)
                if not key.endswith((b":batches", b":pages", b":result", b":sums"))
            },
        }


def parts_of(settings: Settings, *, originals: bool = True) -> Parts:
    """Return the parts on the servers of some settings."""
    store = ObjectStore.from_settings(settings)
    store.ensure_bucket()
    redis = connect(settings.index_url.get_secret_value())
    queue = TaskQueue(make_app(settings, name="test"), Jobs(redis).sent)
    return Parts(store, redis, queue, originals=originals)
