"""A cluster that changes: replicas take over, slots move, and nothing of ours is started again."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.errors import IndexUnavailable
from shared.state import BucketStore, State, check, connect
from tests.support.cluster_servers import BUCKETS, PASSWORD, SLOTS, ClusterServers, one_on
from tests.support.eventually import eventually
from tests.support.refusing_server import foreign_server


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


FOREIGN = {
    "another server": b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("foreign", [None, *FOREIGN.values()], ids=["nobody", *FOREIGN])
def test_a_cluster_that_moved_is_found_again_by_its_url(
    changing: ClusterServers, tmp_path: Path, foreign: bytes | None
) -> None:
    """As when all of it was started anew at other addresses: none of the nodes known so far answers.

    Or other servers do at their addresses, which know no such password or speak another protocol.
    """
    entrance = changing.nodes[3]
    state = State.of(connect(f"redis+cluster://:{PASSWORD.replace(' ', '%20')}@{entrance.name}", retries=0))
    names = [one_on(changing, node, "members:{}") for node in changing.nodes[:3]]
    assert [state.claims.claim(name, "a", [1]) for name in names] == [["a"]] * 3
    changing.kill()
    if foreign is None:
        with pytest.raises(IndexUnavailable, match="does not answer"):
            state.claims.count(names[0])
    with ExitStack() as running:
        moved = ClusterServers(tmp_path / "moved", nodes=4, last_port=entrance.port)
        running.callback(moved.stop)
        if foreign is not None:
            for node in changing.nodes[:3]:
                running.enter_context(foreign_server(foreign, node.port))
        holders = eventually(lambda: state.claims.claim(names[1], "b", [1, 2]), trying=IndexUnavailable)
        assert holders == ["b", "b"]
        assert [state.claims.count(name) for name in names] == [0, 2, 0]


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_server_at_the_address_of_a_lost_node_does_not_keep_its_replica_from_serving(
    changing: ClusterServers, foreign: bytes
) -> None:
    lost, replica = changing.nodes[1], changing.nodes[3]
    client = connect(changing.url, retries=0)
    state, buckets = State.of(client), BucketStore(client)
    away = one_on(changing, lost, "members:{}")
    buckets.add(BUCKETS, [5] * len(BUCKETS))
    replica.client.execute_command("CLUSTER", "REPLICATE", lost.id)
    eventually(lambda: replica.client.info("replication").get("master_link_status") == "up")
    lost.kill()
    eventually(lambda: replica.client.info("replication")["role"] == "master")
    with foreign_server(foreign, lost.port):
        counts = eventually(lambda: buckets.candidates(BUCKETS).counts, trying=IndexUnavailable)
        assert counts.tolist() == [len(BUCKETS)]
        assert eventually(lambda: state.claims.claim(away, "a", [1]), trying=IndexUnavailable) == ["a"]


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
