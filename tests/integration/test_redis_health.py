"""The health of a real Valkey and a real cluster: what refuses writes or may forget keys is named with its remedy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.errors import Unavailable
from shared.health.readiness import Readiness
from shared.health.redis_health import redis_health
from shared.state import Client, connect
from shared.state.server_refusals import BROKER, INDEX
from tests.support.cluster_servers import ClusterServers
from tests.support.eventually import eventually
from tests.support.servers import Servers

REFUSED = [
    ({"min-replicas-to-write": "1"}, "start them, or lower it"),
    ({"maxmemory": "1"}, "raise its maxmemory"),
    ({"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}, "set maxmemory-policy to noeviction"),
]


@contextmanager
def configured(client: Client, values: dict[str, str]) -> Iterator[None]:
    before = {name: client.config_get(name)[name] for name in values}
    for name, value in values.items():
        client.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_a_sound_server_has_nothing_to_say(redis: Client) -> None:
    assert redis_health(redis, INDEX) is None
    assert 0 < redis.ttl("ready") <= 60


@pytest.mark.parametrize(("values", "remedy"), REFUSED)
def test_what_refuses_writes_or_forgets_keys_is_down(redis: Client, values: dict[str, str], remedy: str) -> None:
    with configured(redis, values), pytest.raises(Unavailable, match=f"^the index .*{remedy}"):
        redis_health(redis, INDEX)
    assert redis_health(redis, INDEX) is None


def test_a_replica_is_down(redis: Client) -> None:
    redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(Unavailable, match="ARTSEEK_BROKER_URL has to name the primary"):
            redis_health(redis, BROKER)
    finally:
        redis.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 0}, "maxmemory-policy volatile-ttl"),
        ({"used_memory": 95, "maxmemory": 100}, "95%"),
        ({"aof_last_write_status": "err"}, "could not append"),
        ({"rdb_last_bgsave_status": "err", "aof_last_bgrewrite_status": "err"}, "rewrite .* or save a snapshot"),
    ],
)
def test_what_should_be_mended_soon_is_told(
    redis: Client, monkeypatch: pytest.MonkeyPatch, info: dict[str, object], said: str
) -> None:
    sound = redis.info()
    monkeypatch.setattr(redis, "info", lambda: {**sound, **info})
    note = redis_health(redis, INDEX)
    assert note is not None
    assert re.search(said, note)


def test_every_node_of_a_cluster_is_asked(cluster: ClusterServers) -> None:
    client = connect(cluster.url)
    assert redis_health(client, INDEX) is None
    node = cluster.nodes[1]
    refused = pytest.raises(Unavailable, match=rf"^the index .* at {node.name} takes no writes")
    with configured(node.client, {"min-replicas-to-write": "1"}), refused:
        redis_health(client, INDEX)
    with configured(node.client, {"maxmemory-policy": "allkeys-lru"}):
        note = redis_health(client, INDEX)
    assert note is not None
    assert node.name in note


def test_readiness_names_the_part_that_takes_no_writes(servers: Servers) -> None:
    readiness = Readiness(servers.settings)
    broker = connect(servers.settings.broker_url.get_secret_value())
    eventually(readiness.ask, until=lambda answer: answer["parts"]["broker"] == {"up": True, "reason": None})
    with configured(broker, {"min-replicas-to-write": "1"}):
        answer = eventually(readiness.ask, until=lambda answer: not answer["parts"]["broker"]["up"])
        assert "start them, or lower it" in (answer["parts"]["broker"]["reason"] or "")
        assert answer["parts"]["index"] == {"up": True, "reason": None}
    with configured(broker, {"maxmemory-policy": "allkeys-lru"}):
        answer = eventually(readiness.ask, until=lambda answer: answer["degraded"])
        assert answer["parts"]["broker"]["up"]
