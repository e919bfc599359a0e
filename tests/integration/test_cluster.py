"""The index on a real cluster: it holds the same as one server, loses nothing with a node, and names the lost one."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
import pytest
import redis as redis_py
from pydantic import SecretStr

from local.child_processes import Child, Children
from local.data_folder import DataFolder
from local.system import LocalSystem
from shared.errors import IndexUnavailable
from shared.health import heartbeat
from shared.health.readiness import WORKERS, Readiness
from shared.index.generations import collection_prefix
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue
from shared.state import BucketStore, Change, Changes, IndexState, Jobs, Rejection, State, check, connect
from shared.state.jobs import Outcome
from shared.state.locks import Lock
from shared.stopping import StopSignal
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.cluster_servers import PASSWORD, SLOTS, ClusterServers, Node
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.indexing import Parts
from tests.support.processes import bare_environment, free_port, run_module
from tests.support.servers import Servers
from tests.support.stack import exported_models

BUCKETS = [b"b:%03d" % place for place in range(300)]


def one_on(cluster: ClusterServers, node: Node, form: str) -> str:
    """Return a name such that the key ``form`` makes of it lies on a node."""
    names = (f"name-{number}" for number in range(1000))
    return next(name for name in names if cluster.holder(form.format(name)) is node)


def not_with(cluster: ClusterServers, *keys: str) -> Node:
    """Return a node that holds none of these keys."""
    return next(node for node in cluster.nodes if node not in [cluster.holder(key) for key in keys])


def buckets_of(cluster: ClusterServers) -> list[list[bytes]]:
    """Return the buckets that each node holds."""
    return [[key for key in node.client.scan_iter(count=2000) if key.startswith(b"b:")] for node in cluster.nodes]


# The same as on one server


def fill(url: str) -> list[object]:
    """Do some of everything at random, the same at every call; returns what was answered."""
    rng = np.random.default_rng(4)
    client = connect(url)
    buckets, state, jobs, changes = BucketStore(client), State.of(client), Jobs(client), Changes(client)
    answers: list[object] = []
    for step in range(30):
        names = [BUCKETS[place] for place in rng.integers(0, len(BUCKETS), 400)]
        images = rng.integers(0, 2**53, 50)[rng.integers(0, 50, 400)].tolist()
        buckets.add(names, images)
        buckets.remove(names[::3], images[::3])
        found = buckets.candidates([BUCKETS[place] for place in rng.integers(0, len(BUCKETS), 64)])
        answers.append(dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True)))
        name, segment = f"art-{step % 4}", f"s{step}"
        answers += [
            state.claims.claim(name, segment, images[:20]),
            state.claims.holders(name, images),
            state.claims.count(name),
        ]
        state.claims.release(name, segment, images[:5])
        state.indexed_segments.add(name, segment)
        state.index_states.set(name, IndexState(step, step + 1, 7))
        answers += [
            state.indexed_segments.contain(name, ["s1", "s2", segment]),
            state.index_states.get(name),
            state.attempts.begin(f"t{step % 3}"),
        ]
        jobs.create(f"j{step}", name)
        jobs.extend(f"j{step}", batches=2, total=9, closed=step % 2 == 0)
        answers += [jobs.report(f"j{step}", batch, Outcome({"": 4}, 1)) for batch in range(2)]
        answers += [jobs.get(f"j{step}").outcome, jobs.progress(f"j{step}")]
        changes.announce(Change(name, "segment", segment))
    found_changes = changes.since("0-0")
    assert found_changes is not None
    answers += [found_changes[1], buckets.drop(b"b:", keep=b"b:1"), buckets.drop(b"b:0")]
    state.forget("art-1")
    return answers


def test_a_cluster_answers_as_one_server_does_and_holds_the_same(servers: Servers, cluster: ClusterServers) -> None:
    assert fill(cluster.url) == fill(servers.settings.index_url.get_secret_value())
    plain = connect(servers.settings.index_url.get_secret_value())
    kept = [key for key in cluster.all_keys() if key.startswith(b"b:")]
    assert cluster.all_keys() == set(plain.scan_iter(count=2000))
    assert all(key.startswith(b"b:1") for key in kept)
    client = connect(cluster.url)
    assert {key: client.smembers(key) for key in kept} == {key: plain.smembers(key) for key in kept}
    for node in cluster.nodes:  # or it would be no test of a cluster
        assert len(list(node.client.scan_iter(match="b:*", count=2000))) > 10


def test_an_indexer_leaves_the_same_on_a_cluster_and_after_a_drop_nothing(
    servers: Servers, cluster: ClusterServers
) -> None:
    store = ObjectStore.from_settings(servers.settings)
    store.ensure_bucket()
    parts = Parts(store, connect(cluster.url), TaskQueue(make_app(servers.settings, name="test")))
    art = parts.collection()
    parts.add(art, "a", range(40))
    parts.maintenance().tuner.maintain(collection="art")
    parts.add(art, "b", range(40, 60))
    parts.indexer().deletion.delete(job=parts.job("d", kind="delete"), collection="art", image_ids=rows.ids([3, 44]))
    live = [number for number in range(60) if number not in {3, 44}]
    parts.assert_indexed(art, live)
    stale = [collection_prefix(art) + b"\x00\x07%d" % place for place in range(60)]  # of a generation that is not used
    parts.buckets.add(stale, [1] * len(stale))
    assert all(buckets_of(cluster))
    parts.maintenance().rebuilder.rebuild(collection="art", job=parts.job("r", kind="rebuild"))
    parts.assert_indexed(art, live)
    parts.redis.flushall()
    assert not cluster.all_keys()
    parts.maintenance().rebuilder.rebuild(collection="art")
    parts.assert_indexed(art, live)
    parts.buckets.add(stale, [1] * len(stale))
    parts.maintenance().dropper.drop(job=parts.job("x", kind="drop"), collection="art")
    assert {key for key in cluster.all_keys() if not key.startswith(b"job:")} == {b"changes"}


# A node that is lost


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
    failing: list[Callable[[], object]] = [
        lambda: buckets.add(BUCKETS, [77] * len(BUCKETS)),
        lambda: buckets.remove(BUCKETS, list(range(len(BUCKETS)))),
        lambda: buckets.candidates(BUCKETS),
        lambda: buckets.drop(b"b:"),
        lambda: state.claims.claim(away, "b", [2, 3]),
        lambda: state.claims.holders(away, [1]),
        lambda: jobs.get(job),
        lambda: jobs.report(job, 1, Outcome({"": 3})),
    ]
    for call in failing:
        with pytest.raises(IndexUnavailable, match=rf"does not answer.*{lost.name}"):
            call()
    assert state.claims.claim(here, "b", [2, 3]) == ["a", "b"]
    cluster.revive()
    assert state.claims.holders(away, [1, 2, 3]) == ["a", "a", None]
    # What failed was done by halves, on the nodes that lived: done again, it is whole.
    for _ in range(2):
        jobs.report(job, 1, Outcome({"": 3}))
    assert (jobs.get(job).added, jobs.get(job).outcome.rejected[0].name) == (6, "x")
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


# A cluster that changes


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[ClusterServers]:
    """A cluster of a test's own, with a fourth node that has no slots."""
    running = ClusterServers(tmp_path, nodes=4)
    try:
        yield running
    finally:
        running.stop()


def test_a_replica_takes_over_without_a_restart_of_ours(changing: ClusterServers) -> None:
    lost, replica = changing.nodes[1], changing.nodes[3]
    client = connect(changing.url, retries=0)
    state, buckets = State.of(client), BucketStore(client)
    away = one_on(changing, lost, "members:{}")
    buckets.add(BUCKETS, [5] * len(BUCKETS))
    state.claims.claim(away, "a", [1])
    replica.client.execute_command("CLUSTER", "REPLICATE", lost.id)
    eventually(lambda: replica.client.info("replication").get("master_link_status") == "up")
    lost.client.execute_command("WAIT", 1, 10_000)
    lost.kill()
    answers: list[object] = []

    def answered() -> bool:
        try:
            answers[:] = [state.claims.holders(away, [1]), buckets.candidates(BUCKETS).counts.tolist()]
        except IndexUnavailable:
            return False
        return True

    eventually(answered)
    assert answers == [["a"], [len(BUCKETS)]]
    check(client)
    assert buckets.drop(b"b:") == len(BUCKETS)
    assert not list(replica.client.scan_iter(match="b:*"))
    assert state.claims.claim(away, "b", [1, 2]) == ["a", "b"]


def test_a_slot_is_followed_to_a_node_that_had_none(changing: ClusterServers) -> None:
    """While it is on the move, some of its keys are at the one, others at the other."""
    source, target = changing.nodes[1], changing.nodes[3]
    tag = one_on(changing, source, "{}")
    keys = [f"b:{{{tag}}}:{number}".encode() for number in range(6)]
    slot = source.client.execute_command("CLUSTER", "KEYSLOT", keys[0])
    members = f"members:{{{tag}}}".removeprefix("members:")  # a collection whose claims lie in the same slot
    client = connect(changing.url, retries=0)
    buckets, state = BucketStore(client), State.of(client)
    everything = [*BUCKETS, *keys]
    buckets.add(everything, [1] * len(everything))
    state.claims.claim(members, "a", [1])
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    moved = [*keys[:3], f"claims:{members}".encode()]
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *moved)
    for one in (client, connect(changing.url, retries=0)):
        assert State.of(one).claims.holders(members, [1]) == ["a"]
        assert BucketStore(one).candidates(everything).counts.tolist() == [len(everything)]
    buckets.add(everything, [2] * len(everything))
    assert state.claims.claim(members, "b", [1, 2]) == ["a", "b"]
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys[3:])
    for node in changing.nodes:
        node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    assert buckets.candidates(everything).counts.tolist() == [len(everything)] * 2
    assert state.claims.holders(members, [1, 2]) == ["a", "b"]
    assert target.client.smembers(keys[5]) == {b"1", b"2"}
    assert buckets.drop(b"b:") == len(everything)
    assert not [key for key in changing.all_keys() if key.startswith(b"b:")]


def test_a_cluster_that_moved_is_found_again_by_its_url(changing: ClusterServers, tmp_path: Path) -> None:
    """As when all of it was started anew at other addresses: none of the nodes known so far answers."""
    entrance = changing.nodes[3]
    state = State.of(connect(f"redis+cluster://:{PASSWORD.replace(' ', '%20')}@{entrance.name}", retries=0))
    names = [one_on(changing, node, "members:{}") for node in changing.nodes[:3]]
    assert [state.claims.claim(name, "a", [1]) for name in names] == [["a"]] * 3
    changing.stop()
    with pytest.raises(IndexUnavailable, match="does not answer"):
        state.claims.count(names[0])
    moved = ClusterServers(tmp_path / "moved", nodes=4, last_port=entrance.port)
    try:
        assert [node.port for node in moved.nodes[:3]] != [node.port for node in changing.nodes[:3]]

        def answered() -> bool:
            try:
                return state.claims.claim(names[1], "b", [1, 2]) == ["b", "b"]
            except IndexUnavailable:
                return False

        eventually(answered)
        assert [state.claims.count(name) for name in names] == [0, 2, 0]
    finally:
        moved.stop()


def test_slots_that_no_node_holds_are_named_as_that(changing: ClusterServers) -> None:
    source = changing.nodes[1]
    state = State.of(connect(changing.url, retries=0))
    away, here = one_on(changing, source, "members:{}"), one_on(changing, changing.nodes[2], "members:{}")
    for node in changing.nodes:
        node.client.execute_command("CLUSTER", "DELSLOTSRANGE", SLOTS // 3, 2 * SLOTS // 3 - 1)
    for known in (state, State.of(connect(changing.url, retries=0))):
        with pytest.raises(IndexUnavailable, match="for all keys"):
            known.claims.count(away)
        assert known.claims.count(here) == 0
    source.client.execute_command("CLUSTER", "ADDSLOTSRANGE", SLOTS // 3, 2 * SLOTS // 3 - 1)
    changing.wait_until_whole()
    with pytest.raises(IndexUnavailable):
        known.claims.count(away)  # it learns the nodes anew, for the next call
    assert known.claims.count(away) == 0


# What an operator is told


def test_a_url_of_the_wrong_kind_is_told_as_that(servers: Servers, cluster: ClusterServers) -> None:
    plain, spread = servers.settings.index_url.get_secret_value(), cluster.url
    name = one_on(cluster, cluster.nodes[1], "members:{}")
    as_plain = connect(f"redis://:{PASSWORD}@{cluster.nodes[0].name}/0", retries=0)
    as_cluster = connect(plain.replace("redis://", "redis+cluster://"), retries=0)
    for call in (lambda: check(as_plain), lambda: State.of(as_plain).claims.count(name)):
        with pytest.raises(IndexUnavailable, match=r"runs as a cluster.*ARTSEEK_INDEX_URL.*redis\+cluster://"):
            call()
    for call in (lambda: check(as_cluster), lambda: State.of(as_cluster).claims.count(name)):
        with pytest.raises(IndexUnavailable, match=r"single server.*ARTSEEK_INDEX_URL.*redis://"):
            call()
    check(connect(plain))
    check(connect(spread))


@pytest.mark.parametrize("password", [":wrong@", ""])
def test_a_wrong_password_is_told_as_that(cluster: ClusterServers, password: str) -> None:
    url = f"redis+cluster://{password}{cluster.url.rpartition('@')[2]}"
    with pytest.raises(IndexUnavailable, match="check the password"):
        State.of(connect(url, retries=0)).claims.count("art")


def test_a_cluster_of_which_no_node_answers_is_unavailable() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with pytest.raises(IndexUnavailable, match="does not answer"):
        State.of(connect(url, retries=0)).claims.count("art")


def test_an_error_of_a_command_is_not_taken_for_a_node_that_is_away(cluster: ClusterServers) -> None:
    connect(cluster.url).set(BUCKETS[1], "no set")
    with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
        BucketStore(connect(cluster.url)).add(BUCKETS, [1] * len(BUCKETS))


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


# The whole system


class NeverStopped(StopSignal):
    """No signal of the test run is meant for the system."""

    def __init__(self) -> None:
        self.requested = False


@pytest.fixture
def system(tmp_path: Path, cluster: ClusterServers) -> Iterator[dict[str, str]]:
    """The local system's parts, all but its index: that is the cluster. Gives the environment that reaches them."""
    models = exported_models()
    local = LocalSystem(DataFolder(tmp_path / "data"), host="127.0.0.1", port=free_port(), models=models)
    environment = {"ARTSEEK_INDEX_URL": cluster.url, "ARTSEEK_VISIBILITY_TIMEOUT": "10"}
    index = connect(cluster.url)

    def moved(child: Child) -> Child:
        ready = child.ready
        if child.name in WORKERS:  # the local system would look for its heartbeat in its own index
            ready = partial(lambda name: name in heartbeat.beats(index), child.name)
        return replace(child, environment={**child.environment, **environment}, ready=ready)

    with Children(local.folder.path / "logs", NeverStopped()) as children:
        children.start([child for child in local.stores() if child.name != "valkey-index"])
        children.start([moved(child) for child in local.services()])
        yield {"ARTSEEK_DATA": str(local.folder.path), **environment}


def test_the_system_runs_on_a_cluster_also_through_the_loss_of_a_node(
    system: dict[str, str], cluster: ClusterServers, gallery: Path
) -> None:
    images = sorted(path for path in gallery.rglob("*") if path.is_file())
    index = connect(cluster.url, retries=0)

    def asked(*arguments: str, check: bool = True) -> dict[str, Any]:
        command = ["-m", "cli", *arguments, "--json"]
        return dict(json.loads(run_module(command, environment=system, check=check)))

    def found_by_index() -> bool:
        try:
            found = asked("search", str(images[3]), "--mode", "lsh", "-k", "3")
        except AssertionError:
            return False
        return bool(found["mode"] == "lsh" and found["hits"][0]["name"].endswith(images[3].name))

    eventually(lambda: asked("status", check=False)["ready"])
    command = ["-m", "cli", "ingest", str(gallery), "--labels-from-folders", "--json"]
    ingestion = Popen([sys.executable, *command], env=bare_environment(**system), stdout=PIPE, text=True)
    try:
        eventually(lambda: State.of(index).claims.count("default") > 0)
        lost = cluster.holder("members:default")
        lost.kill()
        eventually(
            lambda: asked("status", check=False)["parts"]["index"]["reason"],
            until=lambda reason: lost.name in (reason or ""),
        )
        cluster.revive()
        printed, _ = ingestion.communicate(timeout=PATIENCE_S)
    finally:
        ingestion.kill()
    summary = json.loads(printed)
    assert (summary["added"] + summary["duplicates"], summary["rejected"]) == (len(images), [])
    eventually(found_by_index)
    assert State.of(index).claims.count("default") == len(images)
    next(node for node, buckets in zip(cluster.nodes, buckets_of(cluster), strict=True) if buckets).kill()
    assert not found_by_index()
    found = asked("search", str(images[3]), "--mode", "exact", "-k", "3")
    assert found["hits"][0]["name"].endswith(images[3].name)
    cluster.revive()
    eventually(found_by_index)

    asked("delete", "--whole-collection")
    assert not any(buckets_of(cluster))
