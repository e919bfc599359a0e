"""A query service of several processes: each answers as the others do, and none is missed when it dies."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from shared.rpc.query import MODES, Mode
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.client import QueryClient
from shared.state import Change
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.query_service import RunningQueryService, query_service
from tests.support.query_system import COUNT, EVERY_CELL, System
from tests.support.servers import Servers

_MODES: tuple[Mode, ...] = ("lsh", "exact")
_NEVER_FALL = ("artseek_query_buckets_total", "process_cpu_seconds_total")


@pytest.fixture
def system(servers: Servers, tmp_path: Path) -> Iterator[System]:
    made = System(servers, tmp_path / "in-process", "normalised")
    made.fit(1, **EVERY_CELL)
    yield made
    made.replica_sync.stop()


@pytest.fixture
def service(
    system: System,  # noqa: ARG001 -- which fills the servers
    servers: Servers,
    tmp_path: Path,
) -> Iterator[RunningQueryService]:
    with query_service(servers, tmp_path / "service", processes=2, ARTSEEK_RECALL_SAMPLE="0") as running:
        yield running


def searched(
    client: QueryClient | Callable[[messages.SearchRequest], messages.SearchResponse], number: int, mode: Mode = "lsh"
) -> list[tuple[int, float]]:
    """Return ids and distances of the nearest neighbours of an image, by a client or as one process answers."""
    request = messages.SearchRequest(collection="art", id=rows.image_id(number), k=10, mode=MODES[mode])
    answer = client.search(request) if isinstance(client, QueryClient) else client(request)
    assert answer.mode == MODES[mode]
    return [(hit.image.id, hit.distance) for hit in answer.hits]


def test_every_process_answers_alike_and_follows_what_is_announced(
    system: System, service: RunningQueryService
) -> None:
    workers = service.workers()
    assert len(workers) == 2
    clients = [partial(service.search_in, worker) for worker in workers]
    for number in (0, 7, 150, 299):
        for mode in _MODES:
            first, second = (searched(client, number, mode) for client in clients)
            assert first == second
            assert len(first) == 10
    for number in range(COUNT, COUNT + 6):
        system.vectors = rows.embeddings(range(number + 1), system.vectors.shape[1])
        system.put(f"s{number}", [number])
        system.changes.announce(Change("art", "segment", f"s{number}"))
        # The first search after it was announced, whichever process it comes to.
        for client in clients[:: 1 if number % 2 else -1]:
            assert searched(client, number, "exact")[0][0] == rows.image_id(number)


def test_segments_lie_on_disk_once_for_all_processes(service: RunningQueryService) -> None:
    mapped = [
        {Path(entry.path) for entry in worker.memory_maps() if entry.path.endswith(".arrow")}
        for worker in service.workers()
    ]
    assert len(mapped[0]) == 5
    assert mapped[0] == mapped[1]
    assert {file.suffix for file in service.copy.rglob("*") if file.is_file()} == {".arrow"}


def test_a_process_that_dies_in_the_middle_of_searches_is_not_missed(service: RunningQueryService) -> None:
    wanted = {number: searched(service.client(), number) for number in range(20)}
    dying, counted = service.workers()[0], service.sum_of("artseek_query_searches_total")
    buckets, used = (service.sum_of(name) for name in _NEVER_FALL)
    assert counted == 20
    assert buckets >= 20
    over, done = threading.Event(), threading.Semaphore(0)

    def search_until_over(first: int) -> int:
        count = 0
        with service.client() as client:
            while not over.is_set():
                number = (first + count) % 20
                assert searched(client, number) == wanted[number]
                count += 1
                done.release()
        return count

    def enough(more: int) -> bool:
        """Return whether there were so many more answers; raises what a search has raised."""
        for search in searches:
            assert not search.done() or search.exception() is None, search.exception()
        return all(done.acquire(blocking=False) for _ in range(more))

    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search_until_over, 5 * number) for number in range(4)]
        try:
            eventually(lambda: enough(40))
            dying.kill()
            for _ in range(10):
                before, (buckets, used) = (buckets, used), (service.sum_of(name) for name in _NEVER_FALL)
                assert (buckets, used) >= before
            eventually(lambda: len(service.workers()) == 2 and service.sum_of("artseek_query_processes") == 2)
            eventually(lambda: enough(40))
        finally:
            over.set()
        answered = sum(search.result(PATIENCE_S) for search in searches)
    assert dying.pid not in {worker.pid for worker in service.workers()}
    # What the dead process counted is not forgotten. It may have counted answers that never came, which others gave.
    assert service.sum_of("artseek_query_searches_total") >= counted + answered


@pytest.mark.usefixtures("system")
def test_a_stop_ends_all_processes_and_the_death_of_the_supervisor_too(servers: Servers, tmp_path: Path) -> None:
    for number, end in enumerate((signal.SIGTERM, signal.SIGKILL)):
        with query_service(servers, tmp_path / str(number), processes=2) as running:
            workers = running.workers()
            folder = Path(workers[0].cmdline()[-3])
            assert folder.stat().st_mode & 0o077 == 0
            running.process.send_signal(end)
            status = running.process.wait(PATIENCE_S)
            psutil.wait_procs(workers, PATIENCE_S)
            assert not any(worker.is_running() for worker in workers)
        assert status == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        assert folder.exists() == (end == signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_second_service_at_the_same_port_is_refused(
    service: RunningQueryService, servers: Servers, tmp_path: Path
) -> None:
    again = RunningQueryService(servers, tmp_path / "again", processes=2, ARTSEEK_QUERY_LISTEN=service.listen)
    assert again.process.wait(PATIENCE_S) == 1
    log = (tmp_path / "again" / "log").read_text()
    assert f"cannot listen at ARTSEEK_QUERY_LISTEN={service.listen}" in log
    assert searched(service.client(), 3)
