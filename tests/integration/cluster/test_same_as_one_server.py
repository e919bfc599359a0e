"""The index on a real cluster: it holds the same as one server, loses nothing with a node, and names the lost one."""

import numpy as np

from shared.index.generations import collection_prefix
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue
from shared.state import BucketStore, Change, Changes, IndexState, Jobs, State, connect
from shared.state.outcomes import Outcome
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.cluster_servers import BUCKETS, ClusterServers, buckets_of
from tests.support.indexing import Parts
from tests.support.servers import Servers


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
        answers.append(state.indexing.complete(name, segment, f"j{step}", 0))
        state.index_states.set(name, IndexState(step, step + 1, 7))
        answers += [
            state.indexed_segments.contain(name, ["s1", "s2", segment]),
            state.index_states.get(name),
            state.attempts.begin(f"t{step % 3}", delivery=str(step), lost=str(step - 3)).deaths,
        ]
        jobs.create(f"j{step}", name)
        jobs.extend(f"j{step}", batches=2, total=9, closed=step % 2 == 0)
        answers += [jobs.report(f"j{step}", batch, Outcome({"": 4}, 1)) for batch in range(2)]
        for pages in (7, 7):
            jobs.add_pages(f"j{step}", 10**12, pages)
        client.hset(f"job:j{step}:batches", "2", '{"added":{"oil":2},"duplicates":0,"rejected":[],"affected":0}')
        job = jobs.get(f"j{step}")
        assert (job.added, job.total, job.reported, job.page_batches) == (10, 16, 3, 1)
        answers += [job.counts, jobs.unreported(job)]
        answers += [jobs.outcome(f"j{step}"), jobs.reported_among(f"j{step}", range(3))]
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
    assert {key for key in cluster.all_keys() if not key.startswith(b"job")} == {
        b"changes",
        b"record-changes",
        b"access:version",
    }
