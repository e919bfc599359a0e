"""A node that is lost: what needs it waits and names it, the rest goes on."""

import os
import signal
import threading
import time
from functools import partial

import pytest
from pydantic import SecretStr

from shared.errors import IndexUnavailable
from shared.health import heartbeat
from shared.health.readiness import Readiness
from shared.state import BucketStore, Change, Changes, Jobs, Rejection, State, connect
from shared.state.locks import Lock
from shared.state.outcomes import Outcome
from tests.support.cluster_servers import BUCKETS, ClusterServers, not_with, one_on
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.servers import Servers


def test_what_needs_no_lost_node_goes_on_and_the_rest_names_it_and_is_well_after_it_is_back(
    cluster: ClusterServers,
) -> None:
    client = connect(cluster.url, retries=0)
    buckets, state, jobs = BucketStore(client), State.of(client), Jobs(client)
    lost, other = cluster.nodes[1], cluster.nodes[2]
    away, here = one_on(cluster, lost, "members:{}"), one_on(cluster, other, "members:{}")
    job = one_on(cluster, lost, "job:{}")
    buckets.add(BUCKETS, list(range(len(BUCKETS))))
    for name in (away, here):
        state.claims.claim(name, "a", [1, 2])
    jobs.create(job, "art")
    jobs.report(job, 0, Outcome({"": 3}, 0, (Rejection("x", "corrupt", "why"),)))
    lost.kill()
    failing = (
        partial(buckets.add, BUCKETS, [77] * len(BUCKETS)),
        partial(buckets.remove, BUCKETS, list(range(len(BUCKETS)))),
        partial(buckets.candidates, BUCKETS),
        partial(buckets.drop, b"b:"),
        partial(state.claims.claim, away, "b", [2, 3]),
        partial(state.claims.holders, away, [1]),
        partial(jobs.get, job),
        partial(jobs.report, job, 1, Outcome({"": 3})),
    )
    for call in failing:
        with pytest.raises(IndexUnavailable, match=rf"does not answer.*{lost.name}"):
            call()
    assert state.claims.claim(here, "b", [2, 3]) == ["a", "b"]
    cluster.revive()
    assert state.claims.holders(away, [1, 2, 3]) == ["a", "a", None]
    # What failed was done by halves, on the nodes that lived: done again, it is whole.
    for _ in range(2):
        jobs.report(job, 1, Outcome({"": 3}))
    assert (jobs.get(job).added, jobs.outcome(job).rejected[0].name) == (6, "x")
    buckets.add(BUCKETS, [77] * len(BUCKETS))
    buckets.remove(BUCKETS, list(range(len(BUCKETS))))
    assert {key: client.smembers(key) for key in BUCKETS} == {
        key: {b"77"} if place != 77 else set() for place, key in enumerate(BUCKETS)
    }
    assert buckets.drop(b"b:") == len(BUCKETS) - 1
    assert state.claims.claim(away, "b", [2, 3]) == ["a", "b"]


def test_a_cluster_that_stops_for_a_lost_node_is_unavailable_until_it_is_back(cluster: ClusterServers) -> None:
    state = State.of(connect(cluster.url, retries=0))
    here = one_on(cluster, cluster.nodes[2], "members:{}")
    for node in cluster.nodes:
        node.client.config_set("cluster-require-full-coverage", "yes")
    try:
        cluster.nodes[1].kill()
        living = [cluster.nodes[0], cluster.nodes[2]]  # each learns it for itself
        eventually(
            lambda: {node.client.execute_command("CLUSTER INFO")["cluster_state"] for node in living},
            until=lambda states: states == {"fail"},
        )
        with pytest.raises(IndexUnavailable, match=r"does not answer for all keys.*cluster is down"):
            state.claims.claim(here, "a", [1])
        with pytest.raises(IndexUnavailable, match=r"does not answer for all keys.*cluster is down"):
            BucketStore(connect(cluster.url, retries=0)).add(BUCKETS, [1] * len(BUCKETS))
        cluster.nodes[1].start()
        for node in cluster.nodes:
            node.client.config_set("cluster-require-full-coverage", "yes")
        cluster.wait_until_whole()
        assert state.claims.claim(here, "a", [1]) == ["a"]
    finally:
        cluster.revive()
        for node in cluster.nodes:
            node.client.config_set("cluster-require-full-coverage", "no")


def test_a_task_that_waits_goes_on_when_the_node_is_back(cluster: ClusterServers) -> None:
    """As a worker does: tried again while the index is away, by one client that knew the cluster before."""
    state, buckets = State.of(connect(cluster.url)), BucketStore(connect(cluster.url))
    away = one_on(cluster, cluster.nodes[0], "members:{}")  # a node that the URL names
    state.claims.claim(away, "a", [1])
    cluster.nodes[0].kill()
    failed, done = threading.Event(), threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                assert state.claims.claim(away, "b", [1, 2]) == ["a", "b"]
                buckets.add(BUCKETS, [5] * len(BUCKETS))
                done.set()
            except IndexUnavailable:
                failed.set()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert failed.wait(PATIENCE_S)
        cluster.revive()
        assert done.wait(PATIENCE_S)
    finally:
        done.set()
        worker.join()
    assert buckets.candidates(BUCKETS).counts.tolist() == [len(BUCKETS)]


def test_a_node_that_hangs_is_unavailable(cluster: ClusterServers) -> None:
    client = connect(cluster.url, timeout_s=2.0)
    state, buckets = State.of(client), BucketStore(client)
    away = one_on(cluster, cluster.nodes[1], "members:{}")
    assert state.claims.count(away) == 0
    os.kill(cluster.nodes[1].pid, signal.SIGSTOP)
    try:
        for call in (lambda: state.claims.count(away), lambda: buckets.add(BUCKETS, [1] * len(BUCKETS))):
            with pytest.raises(IndexUnavailable, match="does not answer"):
                call()
    finally:
        os.kill(cluster.nodes[1].pid, signal.SIGCONT)
    cluster.wait_until_whole()
    assert state.claims.count(away) == 0
    buckets.add(BUCKETS, [1] * len(BUCKETS))
    assert buckets.drop(b"b:") == len(BUCKETS)


@pytest.mark.parametrize("number", range(3))
def test_changes_are_followed_whichever_other_node_is_lost(cluster: ClusterServers, number: int) -> None:
    lost = cluster.nodes[number]
    if cluster.holder("changes") is lost:
        lost = not_with(cluster, "changes")
    position = "0-0"
    known = Changes(connect(cluster.url, retries=0))
    for changes in (known, known, Changes(connect(cluster.url, retries=0))):  # a new one finds a node that lives
        changes.announce(Change("art", "index"))
        answer = changes.since(position, block_ms=100)
        assert answer is not None
        position, told = answer
        assert told == [Change("art", "index")]
        lost.kill()


def test_a_lock_is_freed_though_another_node_is_lost_and_its_own_forgot_the_script(cluster: ClusterServers) -> None:
    state = State.of(connect(cluster.url, retries=0))
    cluster.holder("lock:x").client.script_flush()
    lock = Lock("x", "x is being tested")
    with state.locks.hold(lock):
        not_with(cluster, "lock:x").kill()
    with state.locks.hold(lock):
        assert state.locks.is_held(lock)


def test_readiness_names_the_lost_node(servers: Servers, cluster: ClusterServers) -> None:
    readiness = Readiness(servers.settings.model_copy(update={"index_url": SecretStr(cluster.url)}))
    up = {"up": True, "reason": None}
    eventually(lambda: readiness.ask()["parts"]["index"], until=lambda part: part == up)  # it may take too long to ask
    lost = cluster.nodes[1]
    lost.kill()
    found = eventually(lambda: readiness.ask()["parts"]["index"], until=lambda part: lost.name in str(part["reason"]))
    assert found["up"] is False
    assert not any(node.name in str(found["reason"]) for node in cluster.nodes if node is not lost)
    cluster.revive()
    eventually(lambda: readiness.ask()["parts"]["index"], until=lambda part: part == up)


def test_heartbeats_go_on_after_their_node_was_away(cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.1)
    client = connect(cluster.url, retries=0)
    stop = heartbeat.start(connect(cluster.url, retries=0), "indexer")
    try:
        eventually(lambda: "indexer" in heartbeat.beats(client))
        cluster.holder("heartbeats").kill()
        with pytest.raises(IndexUnavailable):
            heartbeat.beats(client)
        cluster.revive()
        back = time.time()
        eventually(lambda: heartbeat.beats(client)["indexer"] < time.time() - back)
    finally:
        stop()
