"""Two systems on one Redis: the second is refused by name, at the start of every service and command."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from shared.errors import OtherSystem
from shared.health.readiness import Readiness
from shared.settings import Settings
from shared.state import Client, connect
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.system_identity import KEY
from shared.system_identity import check_own_system as check
from tests.support.cluster_servers import ClusterServers
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import bare_environment
from tests.support.servers import Servers

PROGRAMS = {
    "worker": ["celery", "-A", "services.indexer.app", "worker", "-Q", "index", "--concurrency", "1"],
    "query": ["services.query"],
    "web": ["services.web"],
    "command": ["cli", "collections"],
}


def check_own_system(settings: Settings) -> None:
    check(settings, settings.broker_url)


def with_bucket(settings: Settings, bucket: str) -> Settings:
    return settings.model_copy(update={"s3_bucket": bucket})


def with_database(url: SecretStr, number: int) -> SecretStr:
    return SecretStr(f"{url.get_secret_value().rpartition('/')[0]}/{number}")


@pytest.fixture
def broker(servers: Servers) -> Client:
    return connect(servers.settings.broker_url.get_secret_value())


def test_the_first_start_gives_the_id_to_store_index_and_broker(
    servers: Servers, store: ObjectStore, redis: Client, broker: Client
) -> None:
    with ThreadPoolExecutor(8) as threads:  # the services start at the same time
        list(threads.map(check_own_system, [servers.settings] * 8))
    assert store.get(layout.SYSTEM) == redis.get(KEY) == broker.get(KEY)


def test_another_bucket_on_the_same_redis_is_refused_by_name(servers: Servers) -> None:
    check_own_system(servers.settings)
    other = with_bucket(servers.settings, "other")
    with pytest.raises(OtherSystem, match=r"ARTSEEK_INDEX_URL belongs to the system .*'artseek'.*'other'.*FLUSHDB"):
        check_own_system(other)
    check_own_system(servers.settings)


def test_two_systems_may_use_numbered_databases_of_one_server(servers: Servers) -> None:
    check_own_system(servers.settings)
    other = with_bucket(servers.settings, "numbered").model_copy(
        update={
            "index_url": with_database(servers.settings.index_url, 1),
            "broker_url": with_database(servers.settings.index_url, 2),
        }
    )
    check_own_system(other)
    with pytest.raises(OtherSystem, match="ARTSEEK_BROKER_URL belongs to"):
        check_own_system(other.model_copy(update={"broker_url": servers.settings.broker_url}))
    with pytest.raises(OtherSystem, match="ARTSEEK_INDEX_URL belongs to"):
        check_own_system(other.model_copy(update={"index_url": servers.settings.index_url}))


def test_an_emptied_redis_takes_the_id_anew(servers: Servers, redis: Client, broker: Client) -> None:
    check_own_system(servers.settings)
    held = redis.get(KEY)
    redis.flushall()
    broker.flushall()
    check_own_system(servers.settings)
    assert redis.get(KEY) == broker.get(KEY) == held


def test_a_running_system_notices_a_redis_that_was_given_away(
    servers: Servers, store: ObjectStore, broker: Client
) -> None:
    check_own_system(servers.settings)
    readiness = Readiness(servers.settings)
    eventually(readiness.ask, until=lambda answer: answer["parts"]["broker"]["up"])
    broker.set(KEY, store.get(layout.SYSTEM).replace(b'"id": "', b'"id": "0'))
    answer = eventually(readiness.ask, until=lambda answer: not answer["parts"]["broker"]["up"])
    assert "belongs to the system 0" in (answer["parts"]["broker"]["reason"] or "")


def test_a_service_without_a_broker_checks_its_index_alone(servers: Servers) -> None:
    settings = servers.settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    check(settings, None)
    with pytest.raises(OtherSystem, match="ARTSEEK_INDEX_URL"):
        check(with_bucket(settings, "brokerless"), None)


def test_an_index_on_a_cluster_has_the_id_too(servers: Servers, cluster: ClusterServers) -> None:
    settings = servers.settings.model_copy(update={"index_url": SecretStr(cluster.url)})
    check_own_system(settings)
    with pytest.raises(OtherSystem, match="ARTSEEK_INDEX_URL"):
        check_own_system(with_bucket(settings, "beside-a-cluster"))


def test_services_and_commands_end_with_the_reason(servers: Servers) -> None:
    check_own_system(servers.settings)
    environment = bare_environment(ARTSEEK_DATA=str(servers.settings.data), ARTSEEK_S3_BUCKET="other")
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, arguments in PROGRAMS.items()
    }
    for name, process in started.items():
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1, name
        assert "belongs to the system" in said.replace("\n", " "), name
        assert "Traceback" not in said, name
