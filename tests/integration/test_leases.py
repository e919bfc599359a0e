"""Leases of messages and attempts, on real servers with real workers that are stopped and killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from redis.exceptions import ResponseError

from shared.messaging.celery_app import make_app
from shared.messaging.messages import BatchImage
from shared.messaging.task_queue import EMBED, INDEX, TaskQueue
from shared.state import IndexState, State, connect
from shared.state.job_ids import new_job_id
from shared.storage import layout
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.gates import DIM, SILENCE_S
from tests.support.paths import ROOT
from tests.support.processes import bare_environment
from tests.support.servers import Servers


class Line:
    """A queue of batches, workers whose model waits for the test, and what they have written."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.settings, self.folder = servers.settings, folder
        self.store = ObjectStore.from_settings(self.settings)
        self.index = connect(self.settings.index_url.get_secret_value(), timeout_s=PATIENCE_S)
        self.broker = connect(self.settings.broker_url.get_secret_value())
        self.state = State.of(self.index)
        self.queue = TaskQueue(make_app(self.settings, name="tests"))
        self.workers: list[psutil.Popen] = []
        self.store.ensure_bucket()
        Catalog(self.store).create("art", model="gated", version=1, dim=DIM)
        self.state.index_states.set("art", IndexState())

    def start_worker(self) -> psutil.Popen:
        """Start an embedder with one process for tasks, and wait until it is ready."""
        log = self.folder / f"{len(self.workers)}.log"
        command = [*("celery", "-A", "tests.support.gated_embedder", "worker", "-Q", EMBED), "-c", "1"]
        options = ["-n", f"{len(self.workers)}@test", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        with log.open("w") as file:
            worker = psutil.Popen(
                [sys.executable, "-m", *command, *options],
                cwd=ROOT,
                env=bare_environment(ARTSEEK_DATA=str(self.settings.data)),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        eventually(log.read_text, until=lambda text: "ready." in text, explain=log.read_text)
        return worker

    def send(self, count: int) -> tuple[str, list[str]]:
        """Send a batch of images; returns its job and their digests."""
        job = new_job_id()
        items: list[BatchImage] = []
        for _ in range(count):
            pixels = np.random.default_rng().integers(0, 256, (8, 8, 3), dtype=np.uint8)
            path = self.folder / "image.png"
            Image.fromarray(pixels).save(path)
            data = path.read_bytes()
            digest = layout.digest_of(data)
            self.store.put(layout.original_key(digest), data)
            items.append(BatchImage(digest, f"{len(items)}.png", None, len(data)))
        self.state.jobs.create(job, "art")
        self.state.jobs.extend(job, batches=1, total=count, closed=True)
        self.queue.embed(job=job, batch=0, collection="art", items=items)
        return job, [item.digest for item in items]

    def next_at_model(self) -> psutil.Process:
        """Wait until an attempt is at the model; returns its process."""
        found = self.index.blpop("at-model", timeout=PATIENCE_S)
        assert found is not None
        return psutil.Process(int(found[1]))

    def let_go(self, process: psutil.Process) -> None:
        """Let the model answer an attempt."""
        self.index.rpush(f"go:{process.pid}", b"")

    def held(self) -> dict[bytes, float]:
        """Return the tags of the messages that workers hold, and when they were renewed."""
        return dict(self.broker.zrange("unacked_index", 0, -1, withscores=True))

    def sent_on(self) -> int:
        return int(self.broker.llen(INDEX))

    def wait_until_idle(self) -> None:
        eventually(lambda: (self.broker.llen(EMBED), self.held(), self.broker.hlen("unacked")), until=(0, {}, 0).__eq__)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def line(servers: Servers, tmp_path: Path) -> Iterator[Line]:
    running = Line(servers, tmp_path)
    yield running
    for worker in running.workers:
        for process in (*worker.children(recursive=True), worker) if worker.is_running() else ():
            process.kill()
        worker.wait(PATIENCE_S)


def test_a_worker_keeps_its_task_as_long_as_it_lives_and_is_fenced_off_after_it_was_stopped(line: Line) -> None:
    first, second = line.start_worker(), line.start_worker()
    job, digests = line.send(3)
    attempt = line.next_at_model()
    if attempt.ppid() == second.pid:
        first, second = second, first
    (tag, since), *_ = line.held().items()

    # It takes several times as long as a silent worker would be given.
    eventually(line.held, until=lambda held: held[tag] - since > 3 * SILENCE_S)

    # Nor is it begun a second time when the workers' connections are cut, whether or not its message goes back.
    for client in line.broker.client_list(_type="normal"):
        if client["id"] != str(line.broker.client_id()):
            with suppress(ResponseError):  # it is gone
                line.broker.client_kill_filter(_id=client["id"])
    cut_at = line.broker.time()[0]
    eventually(line.held, until=lambda held: max(held.values(), default=0) > cut_at + 2 * SILENCE_S)
    ((tag, _),) = line.held().items()
    assert line.index.llen("at-model") == 0

    stopped = [first, attempt]
    for process in stopped:
        process.suspend()
    other = line.next_at_model()
    assert other.ppid() == second.pid
    (new_tag,) = line.held()
    assert new_tag != tag

    line.let_go(attempt)
    for process in stopped:
        process.resume()
    log = line.folder / f"{line.workers.index(first)}.log"
    eventually(log.read_text, until=lambda text: "this attempt ends without" in text, explain=log.read_text)
    eventually(lambda: new_tag in line.held())
    assert list(line.store.list("vectors/")) == []
    assert line.sent_on() == line.broker.llen(EMBED) == 0

    for process in (second, other):
        process.kill()
    again = line.next_at_model()
    assert again.ppid() == first.pid
    line.let_go(again)
    line.wait_until_idle()
    (segment,) = line.store.list("vectors/")
    assert segment.key == layout.segment_key("art", f"{job}-000000")
    assert line.sent_on() == 1
    assert line.state.claims.count("art") == len(digests)


def test_a_process_that_dies_outside_the_decoder_is_no_strike_and_one_that_dies_in_it_is(line: Line) -> None:
    line.start_worker()
    _, digests = line.send(3)
    for _ in range(4):
        line.next_at_model().kill()
    line.let_go(line.next_at_model())
    line.wait_until_idle()
    assert line.state.claims.count("art") == len(digests)
    assert line.sent_on() == 1

    _, digests = line.send(3)
    line.index.sadd("deadly", digests[1])
    line.let_go(line.next_at_model())
    line.wait_until_idle()
    assert line.state.claims.count("art") == 5
    assert line.store.exists(layout.set_aside_key(digests[1]))
    assert [line.store.exists(layout.original_key(digest)) for digest in digests[::2]] == [True, True]
    assert line.sent_on() == 2
