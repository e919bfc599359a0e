"""What a service's credentials open: what it needs. The servers are those of the local system."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, NoPermissionError

from local.rights import SERVICES
from shared.errors import StoreMisconfigured
from shared.settings import Settings
from shared.state import Client, connect
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers

STORED = ("images/a", "vectors/works/1.arrow", "evaluations/works/1.json", "access/accounts/ann.json", "audit/1.jsonl")
BUCKET = b"b:bucket"


@pytest.fixture(autouse=True)
def kept(servers: Servers) -> None:
    """Something of each kind, in the store and in the index."""
    store = ObjectStore.from_settings(servers.settings)
    store.ensure_bucket()
    for key in STORED:
        store.put(key, b"kept")
    connect(servers.settings.index_url.get_secret_value()).sadd(BUCKET, 1)


def settings_of(servers: Servers, service: str) -> Settings:
    given = servers.system.service_environment(service)
    names = {"index_url", "broker_url", "s3_access_key", "s3_secret_key"}
    return servers.settings.model_copy(update={name: SecretStr(given[f"ARTSEEK_{name.upper()}"]) for name in names})


def index_of(servers: Servers, service: str) -> Client:
    return connect(settings_of(servers, service).index_url.get_secret_value(), retries=0)


def is_refused(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except (NoPermissionError, StoreMisconfigured):
        return True
    return False


@pytest.mark.parametrize(
    ("service", "allowed"),
    [("query", False), ("web", False), ("embedder", False), ("evaluator", False), ("indexer", True)],
)
def test_only_who_fills_buckets_can_change_them(servers: Servers, service: str, *, allowed: bool) -> None:
    index = index_of(servers, service)
    assert index.smembers(BUCKET) == {b"1"}
    for change in (
        lambda: index.srem(BUCKET, 2),
        lambda: index.eval("return redis.call('SREM', KEYS[1], 2)", 1, BUCKET),
    ):
        assert is_refused(change) is not allowed


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_no_service_empties_or_rules_a_redis(servers: Servers, service: str) -> None:
    index = index_of(servers, service)
    assert index.info("cluster")
    for command in ("FLUSHALL", "CONFIG GET requirepass", "ACL LIST", "SHUTDOWN NOSAVE", "KEYS *"):
        assert is_refused(partial(index.execute_command, *command.split())), command


@pytest.mark.parametrize(
    ("service", "reads", "writes"),
    [
        ("query", {"images/a", "vectors/works/1.arrow"}, set()),
        ("embedder", set(STORED[:3]), set(STORED[:2])),
        ("indexer", set(STORED[:3]), set(STORED[:2])),
        ("evaluator", set(STORED[:3]), {"evaluations/works/1.json"}),
        ("web", set(STORED), set(STORED) - {"vectors/works/1.arrow"}),
        ("maintenance", set(STORED), set(STORED)),
    ],
)
def test_a_service_reads_and_writes_the_objects_that_it_needs(
    servers: Servers, service: str, reads: set[str], writes: set[str]
) -> None:
    store = ObjectStore.from_settings(settings_of(servers, service))
    store.ensure_bucket()
    assert {item.key for item in store.list("")} >= set(STORED)
    assert {key for key in STORED if not is_refused(partial(store.get, key))} == reads
    assert {key for key in STORED if not is_refused(partial(store.put, key, b"kept"))} == writes
    assert {key for key in STORED if not is_refused(partial(store.delete, [key]))} == writes
    own = ObjectStore.from_settings(servers.settings)
    for key in writes:
        own.put(key, b"kept")
    assert {item.key for item in own.list("")} >= set(STORED)


def test_each_has_credentials_of_its_own_and_the_query_service_none_at_the_broker(servers: Servers) -> None:
    given = {service: settings_of(servers, service) for service in SERVICES}
    for field in ("index_url", "broker_url", "s3_access_key", "s3_secret_key"):
        values = {getattr(settings, field).get_secret_value() for settings in (*given.values(), servers.settings)}
        assert len(values) == len(SERVICES) + 1
    for service, rights in SERVICES.items():
        broker = connect(given[service].broker_url.get_secret_value(), retries=0)
        if rights.sends:
            assert broker.ping()
        else:
            with pytest.raises(AuthenticationError):
                broker.ping()


def test_the_maintenance_worker_has_what_was_purged_removed_from_the_files_of_both(servers: Servers) -> None:
    given = settings_of(servers, "maintenance")
    for url in (given.index_url, given.broker_url):
        server = connect(url.get_secret_value(), retries=0)
        assert not is_refused(server.bgrewriteaof)
