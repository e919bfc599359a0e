"""What `docker-compose.scale.yml` starts, from local processes: a cluster made of new nodes, and two query replicas."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from local.ports import FreePorts
from shared.errors import IndexUnavailable, Invalid
from shared.rpc.query import MODES
from shared.rpc.query import query_pb2 as messages
from shared.rpc.query.connecting import connect_query
from shared.state import Change, check, connect
from shared.state.cluster_setup import SLOTS, make_cluster
from tests.support import rows
from tests.support.cluster_servers import PASSWORD, Node
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.processes import free_port
from tests.support.query_service import RunningQueryService, query_service
from tests.support.query_system import COUNT, EVERY_CELL, System
from tests.support.servers import Servers


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Three servers that have not met."""
    ports = FreePorts({})
    made: list[Node] = []
    try:
        made.extend(
            Node(tmp_path / f"node-{number}", ports.take(f"node {number}", with_grpc_twin=True)) for number in range(3)
        )
        yield made
    finally:
        for node in made:
            node.kill()


def url_of(nodes: list[Node], password: str = PASSWORD) -> str:
    return f"redis+cluster://:{password.replace(' ', '%20')}@{','.join(node.name for node in nodes)}"


def shares(nodes: list[Node]) -> list[int]:
    """Return how many slots each node holds."""
    held = []
    for node in nodes:
        lines = node.client.execute_command("CLUSTER", "NODES").decode().splitlines()
        (own,) = (line.split()[8:] for line in lines if "myself" in line)
        bounds = [words.split("-") for words in own]
        held.append(sum(int(bound[-1]) - int(bound[0]) + 1 for bound in bounds))
    return held


def test_new_nodes_become_a_cluster_and_stay_as_they_are(nodes: list[Node]) -> None:
    url = url_of(nodes)
    nodes[1].client.execute_command("CLUSTER", "ADDSLOTSRANGE", SLOTS // 3, SLOTS // 2)  # an earlier run ended here
    for _ in range(2):
        make_cluster(url)
        assert sum(shares(nodes)) == SLOTS
        assert max(shares(nodes)) - min(shares(nodes)) <= 1
    check(connect(url))


def test_nodes_that_are_no_cluster_are_told_by_name(nodes: list[Node]) -> None:
    with pytest.raises(Invalid, match=r"expected redis\+cluster://"):
        make_cluster(f"redis://:{PASSWORD}@{nodes[0].name}/0")
    with pytest.raises(Invalid, match="names 2 nodes"):
        make_cluster(url_of(nodes[:2]))
    with pytest.raises(IndexUnavailable, match=f"the node {nodes[0].name} does not answer"):
        make_cluster(url_of(nodes, "guessed"))
    nodes[2].kill()
    with pytest.raises(IndexUnavailable, match=f"the node {nodes[2].name} does not answer"):
        make_cluster(url_of(nodes), patience_s=0.0)


def replicas(servers: Servers, folder: Path, index: str, stack: ExitStack) -> list[RunningQueryService]:
    """Start two query services, each of two processes and with a copy of its own."""
    return [
        stack.enter_context(
            query_service(servers, folder / name, processes=2, ARTSEEK_INDEX_URL=index, ARTSEEK_RECALL_SAMPLE="0")
        )
        for name in ("first", "second")
    ]


def test_two_replicas_over_a_cluster_share_the_searches_and_one_does_for_both(
    servers: Servers, nodes: list[Node], tmp_path: Path
) -> None:
    url = url_of(nodes)
    make_cluster(url)
    on_cluster: Any = SimpleNamespace(settings=servers.settings.model_copy(update={"index_url": SecretStr(url)}))
    system = System(on_cluster, tmp_path / "in-process", "normalised")
    system.fit(1, **EVERY_CELL)
    with ExitStack() as stack:
        stack.callback(system.replica_sync.stop)
        running = replicas(servers, tmp_path, url, stack)
        # As the name of the service has the addresses of all replicas in Docker's network.
        both = {"query_target": f"ipv4:{','.join(service.listen for service in running)}"}
        client = stack.enter_context(connect_query(servers.settings.model_copy(update=both), deadline_s=PATIENCE_S))

        def neighbours(number: int) -> list[int]:
            request = messages.SearchRequest(collection="art", id=rows.image_id(number), k=10, mode=MODES["lsh"])
            answer = client.search(request)
            assert answer.mode == MODES["lsh"]
            return [hit.image.id for hit in answer.hits]

        for number in range(40):
            neighbours(number)
        counts = eventually(
            lambda: [service.sum_of("artseek_query_searches_total") for service in running],
            until=lambda found: sum(found) == 40,
        )
        assert min(counts) >= 15, counts  # in turns, once both are connected

        # What is announced is in the next answer, whichever replica gives it.
        for number in range(COUNT, COUNT + 8):
            system.vectors = rows.embeddings(range(number + 1), system.vectors.shape[1])
            system.put(f"s{number}", [number])
            system.changes.announce(Change("art", "segment", f"s{number}"))
            assert client.image("art", rows.image_id(number)).id == rows.image_id(number)

        later = {number: neighbours(number) for number in range(40)}
        over, done = threading.Event(), threading.Semaphore(0)

        def search_until_over(first: int) -> None:
            number = first
            while not over.is_set():
                assert neighbours(number % 40) == later[number % 40]
                number += 1
                done.release()

        with ThreadPoolExecutor(4) as pool:
            searches = [pool.submit(search_until_over, 10 * number) for number in range(4)]
            try:
                for _ in range(40):
                    assert done.acquire(timeout=PATIENCE_S)
                assert running[0].stop() == 0
                for _ in range(40):
                    assert done.acquire(timeout=PATIENCE_S)
            finally:
                over.set()
            for search in searches:
                search.result(PATIENCE_S)


def test_nodes_that_nobody_listens_at_are_told() -> None:
    places = ",".join(f"127.0.0.1:{free_port()}" for _ in range(3))
    with pytest.raises(IndexUnavailable, match="does not answer"):
        make_cluster(f"redis+cluster://:x@{places}", patience_s=0.0)
