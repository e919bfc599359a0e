"""Servers that answer "not now": tasks and commands wait for them, and go on when they take writes again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.child_processes import tethered
from shared.errors import BrokerUnavailable, IndexUnavailable
from shared.state import Client, State, connect
from tests.support.eventually import eventually
from tests.support.indexing import parts_of
from tests.support.servers import Servers

_LOST = "Connection to broker lost"  # says Celery when it cannot fetch


@contextmanager
def too_few_replicas(client: Client) -> Iterator[None]:
    """Have a server refuse writes (NOREPLICAS) over the block."""
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


def test_an_index_that_takes_no_writes_is_unavailable_until_it_does(redis: Client) -> None:
    state = State.of(redis)
    with too_few_replicas(redis):
        with pytest.raises(IndexUnavailable, match=r"NOREPLICAS.*min-replicas-to-write"):
            state.jobs.create("j", "art")
        with pytest.raises(IndexUnavailable, match="NOREPLICAS"):
            state.claims.claim("art", "a", [1, 2])  # a pipeline
    assert state.claims.claim("art", "a", [1, 2]) == ["a", "a"]


def test_an_index_that_has_become_a_replica_is_unavailable_until_it_is_a_primary(
    servers: Servers, redis: Client
) -> None:
    other = urlsplit(servers.settings.broker_url.get_secret_value())
    redis.config_set("masterauth", other.password or "")
    redis.replicaof(other.hostname, other.port)
    try:
        with pytest.raises(IndexUnavailable, match=r"READONLY.*primary"):
            State.of(connect(servers.settings.index_url.get_secret_value(), retries=1)).jobs.create("j", "art")
    finally:
        redis.replicaof("NO", "ONE")
    State.of(redis).jobs.create("j", "art")


def test_a_worker_outlives_a_broker_that_takes_no_writes(servers: Servers, tmp_path: Path) -> None:
    """Its main process, which fetches and acknowledges; no task runs meanwhile, and none is lost."""
    parts = parts_of(servers.settings)
    broker = connect(servers.settings.broker_url.get_secret_value())
    log = tmp_path / "worker.log"
    words = ["celery", "-A", "services.indexer.app", "worker", "-Q", "index", "-c", "1", "-n", "indexer@test"]
    with log.open("wb") as out:
        worker = subprocess.Popen(
            tethered([sys.executable, "-m", *words, "--without-gossip", "--without-mingle"]),
            env={**os.environ, **servers.environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:

        def delete() -> str:
            """Have images deleted from a collection that is not there, a job that ends at once."""
            job = parts.job(f"j{broker.time()}", kind="delete")
            parts.queue.delete(job=job, collection="art", image_ids=[1])
            return job

        def wait_for(job: str) -> None:
            eventually(lambda: parts.jobs.get(job).done or worker.poll() is not None, explain=log.read_text)
            assert worker.poll() is None, log.read_text()

        wait_for(delete())
        said = len(log.read_text())
        with too_few_replicas(broker):
            with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
                parts.queue.drop(job="j", collection="art")
            eventually(lambda: _LOST in log.read_text()[said:] or worker.poll() is not None)
        wait_for(delete())
        eventually(lambda: broker.hlen("unacked"), until=lambda held: not held)
    finally:
        worker.kill()
        worker.wait()
