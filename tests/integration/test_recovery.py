"""An ingestion in the middle of which a part is killed: every image is added, none twice, and the index is whole."""

import itertools
import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import Unavailable
from shared.index.generations import Generation
from shared.messaging.task_queue import EMBED
from shared.rpc.query.connecting import connect_query
from shared.state import Jobs, State, connect
from shared.state.jobs import Job
from shared.storage import layout
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from shared.storage.segments import ids_of, unpack
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.model_changes import models_with_a_small_one
from tests.support.processes import suspended
from tests.support.stack import Stack, start_stack

IMAGES = 80
BATCH = 4
PARTS = ("embedder", "indexer", "maintenance", "valkey-index", "valkey-broker", "objects", "model-server", "query")


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system whose parts are killed; a vanished worker's task is given to another after ten seconds."""
    environment = {
        "ARTSEEK_VISIBILITY_TIMEOUT": "10",
        "ARTSEEK_BATCH_SIZE": str(BATCH),  # so small that segments are merged in the middle
        "ARTSEEK_VECTOR_TYPE": "float16",
        "ARTSEEK_MODEL": "small",
    }
    folder = tmp_path_factory.mktemp("weak")
    models = models_with_a_small_one(folder / "models")
    running = start_stack(folder / "data", environment=environment, models=models)
    yield running
    assert running.stop() == 0


def make_folder(folder: Path, seed: int, count: int = IMAGES) -> set[int]:
    """Write small JPEGs of random colours; returns their ids."""
    folder.mkdir()
    images = set()
    for number in range(count):
        path = folder / f"{number:03}.jpg"
        colours = np.random.default_rng([seed, number]).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((64, 48), Image.Resampling.BICUBIC).save(path)
        images.add(layout.image_id(layout.digest_of(path.read_bytes())))
    assert len(images) == count
    return images


@dataclass
class Ingestion:
    """The command as it runs, and how far its job is."""

    stack: Stack
    collection: str
    folder: Path

    def __post_init__(self) -> None:
        self.process = self.stack.popen(
            "ingest", str(self.folder), "--collection", self.collection, "--labels-from-folders", "--json"
        )

    def summary(self) -> dict[str, object]:
        """Wait for the end and return what the command printed."""
        out, said = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, said
        return dict(json.loads(out))


@contextmanager
def half_done(stack: Stack, name: str, folder: Path, *, images: int = BATCH) -> Iterator[Ingestion]:
    """An ingestion of which so many images were claimed, and whose last batch waits over the block."""
    state = State.of(connect(stack.settings.index_url.get_secret_value()))

    def job() -> Job | None:
        return next(iter(state.jobs.page(collection=name)[0]), None)

    with ExitStack() as held:
        with suspended(stack.part("embedder")):  # else all may be done before we see how far it is
            ingestion = Ingestion(stack, name, folder)
            sent = eventually(job, until=lambda seen: seen is not None and seen.closed)
            assert sent is not None
            last = held.enter_context(state.attempts.hold(layout.batch_segment(sent.id, sent.batches - 1)))
        eventually(lambda: state.claims.count(name), until=lambda seen: seen >= images)
        yield ingestion
        with suppress(Unavailable):  # the index was killed: the hold on the batch runs out
            last.pause()


def assert_whole(stack: Stack, name: str, images: set[int]) -> None:
    """Check that a collection has exactly these images, by every part that knows of them, once all is merged."""
    stack.artseek("compact", "--collection", name)
    settings = stack.settings
    store, redis = ObjectStore.from_settings(settings), connect(settings.index_url.get_secret_value())
    catalog, state = Catalog(store), State.of(redis)
    collection = catalog.get(name)
    deleted = catalog.tombstones(name)
    names = catalog.segments(name)
    rows = Counter(
        image
        for segment in names
        for image in ids_of(unpack(store.get(layout.segment_key(name, segment)))).tolist()
        if (segment, image) not in deleted
    )
    assert rows == dict.fromkeys(images, 1)
    assert state.claims.count(name) == len(images)
    holders = state.claims.holders(name, sorted(images))
    assert {holder for holder in holders if holder} <= set(names)
    assert None not in holders
    assert all(state.indexed_segments.contain(name, names))
    current, index_state = catalog.current_index(name), state.index_states.get(name)
    assert current is not None
    assert index_state is not None
    assert (index_state.active, index_state.building) == (current.generation, 0)
    generation = Generation.load(store, collection, current.generation)
    held: Counter[int] = Counter()
    for key in redis.scan_iter(count=5000):
        if key.startswith(generation.prefix):
            held.update(int(member) for member in redis.smembers(key))
    assert held == dict.fromkeys(images, generation.family.tables)
    with connect_query(settings) as query:
        found = query.images(name, limit=1000)
        assert found.total == len(images)
        assert {image.id for image in found.images} == images
    for item in store.list("images/"):
        assert item.size > 0


@pytest.mark.parametrize("part", PARTS)
def test_an_ingestion_survives_the_death_of_a_part(weak: Stack, tmp_path: Path, part: str) -> None:
    seed = PARTS.index(part)
    images = make_folder(tmp_path / "images", seed)
    name = f"without-{part}"
    with half_done(weak, name, tmp_path / "images", images=2 * BATCH) as ingestion:
        weak.part(part).kill()
    summary = ingestion.summary()
    assert (summary["files"], summary["added"], summary["duplicates"], summary["rejected"]) == (IMAGES, IMAGES, 0, [])
    weak.wait_until_ready()
    assert_whole(weak, name, images)


def test_a_task_process_that_is_killed_is_replaced_and_its_batch_done(weak: Stack, tmp_path: Path) -> None:
    """Not the worker as a whole but the processes in which its tasks run, as a fault in a C library would."""
    images = make_folder(tmp_path / "images", 100)
    with half_done(weak, "crashes", tmp_path / "images") as ingestion:
        for service in ("embedder", "indexer"):
            for process in weak.part(service).children():
                process.kill()
    summary = ingestion.summary()
    assert (summary["added"], summary["duplicates"], summary["rejected"]) == (IMAGES, 0, [])
    assert_whole(weak, "crashes", images)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_stopped_and_run_again_adds_the_rest(
    weak: Stack, tmp_path: Path, number: signal.Signals
) -> None:
    images = make_folder(tmp_path / "images", 200 + number)
    name = f"stopped-{number}"
    with half_done(weak, name, tmp_path / "images") as ingestion:
        ingestion.process.send_signal(number)
        _, said = ingestion.process.communicate(timeout=PATIENCE_S)
    assert ingestion.process.returncode == (130 if number == signal.SIGINT else -9), said
    assert "Traceback" not in said
    summary = Ingestion(weak, name, tmp_path / "images").summary()
    assert summary["rejected"] == []
    assert 0 < int(str(summary["added"])) + int(str(summary["duplicates"])) == IMAGES
    wait_for_size(weak, name)
    weak.artseek("rebuild", "--collection", name)  # what the first one had sent may have come after the last fit
    assert_whole(weak, name, images)


def wait_for_size(stack: Stack, name: str) -> None:
    """Wait until what an earlier command had sent is taken in."""

    def images() -> int:
        with connect_query(stack.settings) as query:
            return query.collection(name).images

    eventually(images, until=lambda seen: seen == IMAGES, trying=Unavailable)


def test_two_commands_at_once_with_the_same_files_add_each_once(weak: Stack, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", 300)
    both = [Ingestion(weak, "both", tmp_path / "images") for _ in range(2)]
    summaries = [ingestion.summary() for ingestion in both]
    assert [summary["rejected"] for summary in summaries] == [[], []]
    assert sum(int(str(summary["added"])) for summary in summaries) == IMAGES
    assert sum(int(str(summary["duplicates"])) for summary in summaries) == IMAGES
    weak.artseek("rebuild", "--collection", "both")
    assert_whole(weak, "both", images)


def test_a_worker_that_hangs_until_others_have_its_task_and_then_goes_on_adds_nothing_twice(
    weak: Stack, tmp_path: Path
) -> None:
    broker = connect(weak.settings.broker_url.get_secret_value())
    with ExitStack() as hanging:

        def batches_in_work() -> set[bytes]:
            """Suspend the embedder; return the deliveries that it has not acknowledged, or go on if there is none."""
            with ExitStack() as unless_at_work:
                unless_at_work.enter_context(suspended(weak.part("embedder")))
                unacknowledged = {key for key, value in broker.hgetall("unacked").items() if EMBED.encode() in value}
                if unacknowledged:
                    hanging.push(unless_at_work.pop_all())
            return unacknowledged

        for number in itertools.count():
            name = f"hangs-{number}"
            images = make_folder(tmp_path / name, 400 + number)
            ingestion = Ingestion(weak, name, tmp_path / name)
            deliveries = eventually(
                batches_in_work,
                until=lambda seen: bool(seen) or ingestion.process.poll() is not None,  # noqa: B023 -- looks now
                interval_s=0.01,
            )
            if deliveries:  # else it was done before we looked
                break
        # When their time is over, another worker puts them back into the queue.
        eventually(lambda: deliveries & set(broker.hkeys("unacked")), until=lambda waiting: not waiting)
    summary = ingestion.summary()
    assert (summary["added"], summary["duplicates"], summary["rejected"]) == (IMAGES, 0, [])
    assert_whole(weak, name, images)


def test_after_the_index_was_emptied_in_the_middle_a_second_run_adds_the_rest(weak: Stack, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", 500)
    with half_done(weak, "emptied", tmp_path / "images", images=2 * BATCH) as ingestion:
        connect(weak.settings.index_url.get_secret_value()).flushall()
        _, said = ingestion.process.communicate(timeout=PATIENCE_S)
    assert ingestion.process.returncode == 1
    assert "run the command again" in " ".join(said.split())
    summary = Ingestion(weak, "emptied", tmp_path / "images").summary()
    assert summary["rejected"] == []
    assert int(str(summary["added"])) + int(str(summary["duplicates"])) == IMAGES
    wait_for_size(weak, "emptied")
    weak.artseek("rebuild", "--collection", "emptied")
    assert_whole(weak, "emptied", images)


@pytest.mark.parametrize("whole", [True, False], ids=["the worker", "the process of its task"])
def test_an_evaluation_survives_the_death_of_the_evaluator(weak: Stack, tmp_path: Path, whole: bool) -> None:  # noqa: FBT001
    for seed, label in enumerate(("a", "b")):
        make_folder(tmp_path / label, 200 + 2 * seed + whole, count=60)
    name = f"evaluated-{'worker' if whole else 'task'}"
    weak.artseek("ingest", str(tmp_path), "--collection", name, "--labels-from-folders")
    (tmp_path / "grid.json").write_text(json.dumps({"tables": [1, 4], "hashes": [4, 8], "probes": 4}))
    command = ["evaluate", "--sample", "40", "--collection", name, "--grid", str(tmp_path / "grid.json"), "--json"]
    process = weak.popen(*command)
    redis = connect(weak.settings.index_url.get_secret_value())
    jobs = Jobs(redis)

    def evaluation() -> Job | None:
        assert process.poll() is None
        ids = [key.decode().removeprefix("job:") for key in redis.scan_iter(match="job:*", count=5000)]
        found = [jobs.get(job_id) for job_id in ids if ":" not in job_id]
        return next((job for job in found if job.collection == name and job.kind == "evaluate"), None)

    job = eventually(evaluation)
    assert job is not None

    def share_done() -> float:
        assert process.poll() is None
        now = jobs.get(job.id)
        return now.steps / now.total if now.total else 0.0

    assert eventually(share_done, until=lambda share: share >= 0.3, interval_s=0.01) < 1
    worker = weak.part("evaluator")
    for victim in [worker] if whole else worker.children():
        victim.kill()
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    again = json.loads(weak.artseek(*command))
    keys = ("id", "p_at_k", "ap_at_k", "recall_at_k", "candidates", "per_class", "interval")
    found = json.loads(out)
    assert len(found["grid"]) == 4
    for one, other in zip(found["grid"], again["grid"], strict=True):
        assert [[run[key] for key in keys] for run in one["runs"]] == [
            [run[key] for key in keys] for run in other["runs"]
        ]
    assert [[run[key] for key in keys] for run in found["runs"]] == [
        [run[key] for key in keys] for run in again["runs"]
    ]
    assert [key for key in redis.scan_iter(count=5000) if key.startswith(b"e:")] == []
