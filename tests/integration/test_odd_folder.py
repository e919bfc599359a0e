"""The servers of the local system in a folder whose name has all that shells and configuration files trip over."""

from pathlib import Path

import pytest

from shared.settings import load_settings
from shared.state import connect
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers

NAME = "- Museum, Berlin #2 a'b\"c ${HOME} $x %s ~ ü\nline; & |` {a} 100% "


def test_the_servers_work_in_it_and_write_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / NAME
    servers = Servers(folder)
    try:
        monkeypatch.setenv("ARTSEEK_DATA", str(folder))
        settings = load_settings()
        assert settings == servers.settings
        ObjectStore.from_settings(settings).put("key", b"value")
        connect(settings.index_url.get_secret_value()).set("key", "value")
    finally:
        servers.stop()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert list((folder / "valkey-index" / "appendonlydir").iterdir())
    assert list((folder / "objects").glob("*.dat"))
    servers.index.start()
    servers.objects.start()
    try:
        assert ObjectStore.from_settings(settings).get("key") == b"value"
        assert connect(settings.index_url.get_secret_value()).get("key") == b"value"
    finally:
        servers.stop()
