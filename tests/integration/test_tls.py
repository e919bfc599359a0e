"""TLS to Redis and to the object store, whose certificates come from an authority of one's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.certificates import make_certificates
from shared.errors import IndexUnavailable, Invalid, StoreUnavailable
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import QUEUES, TaskQueue
from shared.settings import Settings, environment_name
from shared.state import connect, guarded
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers
from tests.support.tls_proxy import tls_proxy


@dataclass(frozen=True)
class Behind:
    """What reaches the servers by TLS, but for the authority."""

    values: dict[str, str]
    ca: Path
    strange_ca: Path


@pytest.fixture(scope="module")
def behind(all_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("tls")
    for name, text in zip(("ca", "certificate", "key"), make_certificates("own"), strict=True):
        (folder / name).write_text(text)
    (folder / "strange").write_text(make_certificates("strange")[0])
    given = all_servers.settings
    certificate = {"certificate": folder / "certificate", "key": folder / "key"}
    index, broker = (url.get_secret_value() for url in (given.index_url, given.broker_url))
    with (
        tls_proxy(port_of(index), **certificate) as index_port,
        tls_proxy(port_of(broker), **certificate) as broker_port,
        tls_proxy(port_of(given.s3_endpoint), **certificate) as store_port,
    ):
        values = {
            "index_url": secured(index, index_port),
            "broker_url": secured(broker, broker_port),
            "s3_endpoint": f"127.0.0.1:{store_port}",
            "s3_secure": "true",
            "s3_access_key": given.s3_access_key.get_secret_value(),
            "s3_secret_key": given.s3_secret_key.get_secret_value(),
        }
        yield Behind(values, folder / "ca", folder / "strange")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2].split("/")[0])


def secured(url: str, port: int) -> str:
    return url.replace("redis://", "rediss://").replace(f":{port_of(url)}/", f":{port}/")


def settings(monkeypatch: pytest.MonkeyPatch, behind: Behind, ca: Path) -> Settings:
    for name, value in {**behind.values, "redis_ca": str(ca), "s3_ca": str(ca)}.items():
        monkeypatch.setenv(environment_name(name), value)
    return Settings(_env_file=None)  # type: ignore[call-arg]


def test_the_own_authority_opens_index_broker_and_store(
    monkeypatch: pytest.MonkeyPatch, servers: Servers, behind: Behind
) -> None:
    given = settings(monkeypatch, behind, behind.ca)
    assert connect(given.index_url.get_secret_value()).ping()
    queue = TaskQueue(make_app(given, name="producer"))
    queue.clean_trash()
    assert queue.waiting() == dict.fromkeys(QUEUES, 0) | {"maintenance": 1}
    store = ObjectStore.from_settings(given)
    store.ensure_bucket()
    store.put("images/a", b"seen by nobody on the way")
    assert ObjectStore.from_settings(servers.settings).get("images/a") == store.get("images/a")


def test_a_server_of_another_authority_is_not_spoken_to(
    monkeypatch: pytest.MonkeyPatch, servers: Servers, behind: Behind
) -> None:
    assert servers.index.lives
    given = settings(monkeypatch, behind, behind.strange_ca)
    with pytest.raises(IndexUnavailable, match=r"(?i)certificate"), guarded():
        connect(given.index_url.get_secret_value(), retries=0).ping()
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        ObjectStore.from_settings(given).get("images/a")


def test_a_missing_file_of_an_authority_is_told_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, behind: Behind, tmp_path: Path
) -> None:
    given = settings(monkeypatch, behind, tmp_path / "none")
    with pytest.raises(Invalid, match=r"ARTSEEK_S3_CA.*cannot be read"):
        ObjectStore.from_settings(given)
