"""Candidates from buckets on a real server: counted, in the order of the probes, bounded, and whole or an error."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import redis as redis_py

from shared.errors import IndexUnavailable
from shared.state import BucketStore, Change, Changes, Client, connect
from shared.state.changes import RECORDS
from tests.support.cluster_servers import ClusterServers
from tests.support.servers import Servers


def test_candidates_are_counted_and_know_their_first_bucket(redis: Client) -> None:
    rng = np.random.default_rng(0)
    held = {b"b:%d" % place: rng.choice(400, place, replace=False) + 2**52 for place in range(0, 60, 4)}
    buckets = BucketStore(redis)
    for name, ids in held.items():
        buckets.add([name] * len(ids), ids.tolist())
    queries = [rng.permutation(list(held))[: int(count)].tolist() for count in (0, 1, 5, 15)]
    queries += [[b"b:none", *queries[3][:4], b"b:none-either"], [b"b:none"]]
    names = list(dict.fromkeys(name for query in queries for name in query))
    places = [[names.index(name) for name in query] for query in queries]
    together = buckets.fetch(names).candidates_of(places)
    for query, found in zip(queries, together, strict=True):
        plain = Counter(image for name in query if name in held for image in held[name].tolist())
        assert found.ids.tolist() == sorted(plain)
        assert found.counts.tolist() == [plain[image] for image in sorted(plain)]
        firsts = [
            min(place for place, name in enumerate(query) if image in held.get(name, ())) for image in sorted(plain)
        ]
        assert found.first.tolist() == firsts
        assert found.truncated == 0
        alone = buckets.candidates(query)
        assert all(np.array_equal(getattr(alone, name), getattr(found, name)) for name in ("ids", "counts", "first"))


@pytest.mark.parametrize("where", ["a server", "a cluster"])
def test_the_ends_of_streams_come_with_the_buckets(redis: Client, cluster: ClusterServers, where: str) -> None:
    client = redis if where == "a server" else connect(cluster.url)
    buckets, changes = BucketStore(client), Changes(client)
    streams = ["changes", RECORDS]
    assert buckets.fetch([], streams=streams).ends == ("0-0", "0-0")
    names = [b"b:%04d" % place for place in range(1100)]
    buckets.add(names, list(range(1, 1101)))
    for value in ("s1", "*3\r\n$4\r\n+PONG\r\n", "*", "", "ü" * 500):
        changes.announce(Change("art", "segment", value))
        for some in ([], names[:1], names[:64], names):
            found = buckets.fetch(some, streams=streams)
            assert found.ends == (changes.position(), "0-0")
            assert found.ids.tolist() == list(range(1, len(some) + 1))
    Changes(client, RECORDS).announce(Change("art", "records"))
    assert buckets.fetch(names[:3], streams=streams).ends[1] == Changes(client, RECORDS).position() != "0-0"
    assert buckets.fetch(names[:3]).ends == ()


def test_more_buckets_than_are_asked_for_at_a_time(redis: Client) -> None:
    buckets = BucketStore(redis)
    names = [b"b:%05d" % place for place in range(1500)]
    buckets.add(names, list(range(1, 1501)))
    found = buckets.candidates(names)
    assert found.ids.tolist() == list(range(1, 1501))
    assert found.first.tolist() == list(range(1500))


def test_a_large_bucket_gives_no_more_than_the_limit_and_the_others_all(redis: Client) -> None:
    """Also the second time, when it is known to be large, and once it is not any more."""
    limit = 200
    buckets = BucketStore(redis, limit=limit)
    sizes = {b"b:below": limit - 1, b"b:at": limit, b"b:above": limit + 1, b"b:far": 40_000}
    rng = np.random.default_rng(0)
    held = {name: set((rng.choice(2**53 - 1, size, replace=False) + 1).tolist()) for name, size in sizes.items()}
    for name, ids in held.items():
        buckets.add([name] * len(ids), list(ids))
    query = [b"b:far", b"b:below", b"b:above", b"b:none", b"b:at"]
    answers = []
    for _ in range(3):
        found = buckets.candidates(query)
        assert found.truncated == 2
        for place, name in enumerate(query):
            of = set(found.ids[found.first == place].tolist())
            assert of <= held.get(name, set())
            assert len(of) == min(limit, len(held.get(name, ())))
        answers.append(found.ids.tolist())
    assert answers[1] == answers[2]  # what is known to be large gives the same ones
    for name in (b"b:far", b"b:above"):
        gone = sorted(held[name])[limit // 2 :]
        buckets.remove([name] * len(gone), gone)
        held[name] -= set(gone)
    for _ in range(2):
        found = buckets.candidates(query)
        assert found.truncated == 0
        assert set(found.ids.tolist()) == set().union(*held.values())


def test_members_that_are_no_ids_of_ours_are_read_all_the_same(redis: Client) -> None:
    buckets = BucketStore(redis)
    buckets.add([b"b:1", b"b:1", b"b:2"], [-5, 2**62, 7])
    assert buckets.candidates([b"b:1", b"b:2"]).ids.tolist() == [-5, 7, 2**62]


def test_a_key_that_is_no_set_is_an_error_and_the_connection_goes_on(redis: Client) -> None:
    buckets = BucketStore(redis)
    buckets.add([b"b:1"], [1])
    redis.set(b"b:text", "no set")
    for _ in range(3):
        with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
            buckets.candidates([b"b:1", b"b:text", b"b:1"])
        assert buckets.candidates([b"b:1"]).ids.tolist() == [1]


def test_a_connection_that_the_server_has_closed_is_made_anew(servers: Servers, redis: Client) -> None:
    buckets = BucketStore(connect(servers.settings.index_url.get_secret_value(), retries=1))
    buckets.add([b"b:1"], [1])
    for _ in range(3):
        redis.client_kill_filter(_type="normal", skipme=True)
        assert buckets.candidates([b"b:1"]).ids.tolist() == [1]


def test_a_server_that_is_killed_among_searches_is_unavailable_and_then_answers_again(servers: Servers) -> None:
    """No answer is ever a part of one."""
    client = connect(servers.settings.index_url.get_secret_value(), retries=0, timeout_s=2.0)
    buckets = BucketStore(client)
    names = [b"b:%d" % place for place in range(40)]
    ids = np.random.default_rng(0).choice(2**53 - 1, 40 * 300, replace=False) + 1
    buckets.add(names * 300, ids.tolist())
    wanted = np.sort(ids)
    stop, failures, wrong = threading.Event(), Counter[str](), []

    def search() -> None:
        while not stop.is_set():
            try:
                found = buckets.candidates(names)
            except IndexUnavailable:
                failures["unavailable"] += 1
            else:
                failures["answered"] += 1
                if not np.array_equal(found.ids, wanted):
                    wrong.append(len(found.ids))

    with ThreadPoolExecutor(3) as threads:
        searches = [threads.submit(search) for _ in range(3)]
        try:
            for _ in range(3):
                servers.index.kill()
                servers.index.start()
                assert np.array_equal(
                    BucketStore(connect(servers.settings.index_url.get_secret_value())).candidates(names).ids, wanted
                )
        finally:
            stop.set()
        for each in searches:
            each.result()
    assert wrong == []
    assert failures["answered"] > 0
    assert np.array_equal(buckets.candidates(names).ids, wanted)
