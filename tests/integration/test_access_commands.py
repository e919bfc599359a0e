"""`artseek users`, `artseek keys`, `artseek share` and `artseek audit` on a real object store and Valkey."""

import json
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner

from cli.main import main
from shared.access import AccessStore, Grant, passwords
from shared.access.passwords import fits
from shared.access.signing import Signing, link_id
from shared.rpc.query import Collection, QueryClient
from shared.state import Client, State
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers

PASSWORD = "a long password"


class Terminal:
    """Runs commands; `typed` is what somebody types when asked."""

    def __init__(self, servers: Servers) -> None:
        self._environment = dict(servers.environment)

    def __call__(self, *words: str, typed: str = "", status: int = 0) -> str:
        result = CliRunner().invoke(main, words, input=typed, env=self._environment)
        assert result.exit_code == status, result.output
        return result.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def artseek(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    return Terminal(servers)


@pytest.fixture
def access(store: ObjectStore, redis: Client) -> AccessStore:
    return AccessStore(store, State.of(redis))


def test_users(artseek: Terminal, access: AccessStore, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    artseek("users", "add", "Ann", "--role", "curator", "--collection", "art", "--password-file", str(file))
    artseek("users", "add", "bob", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert access.account("ann").grants == (Grant("curator", "art"),)
    assert fits(PASSWORD, access.account("bob").password)
    artseek("users", "add", "ann", "--password-file", str(file), status=1)
    artseek("users", "add", "eve", "--collection", "art", "--password-file", str(file), status=2)
    artseek("users", "roles", "bob", "--role", "admin")
    artseek("users", "disable", "ann")
    listed = {user["name"]: (user["roles"], user["disabled"]) for user in artseek.json("users", "list")["users"]}
    assert listed == {
        "ann": ([{"role": "curator", "collection": "art"}], True),
        "bob": ([{"role": "admin", "collection": None}], False),
    }
    artseek("users", "enable", "ann")
    assert not access.account("ann").disabled
    artseek("users", "password", "ann", typed="another password\nanother password\n")
    assert fits("another password", access.account("ann").password)
    artseek("users", "remove", "ann")
    artseek("users", "remove", "ann", status=1)
    assert list(access.load().accounts) == ["bob"]
    done = [json.loads(line)["what"] for line in artseek("audit", "--json").splitlines()]
    assert {"add_user", "change_roles", "disable_user", "enable_user", "change_password", "remove_user"} <= set(done)


def test_keys(artseek: Terminal, access: AccessStore) -> None:
    made = artseek.json(
        "keys", "create", "--role", "viewer", "--collection", "art", "--expires", "2", "--note", "[a] b"
    )
    assert made["key"].startswith(f"ak_{made['id']}_")
    assert access.load().keys[made["id"]].grants == (Grant("viewer", "art"),)
    (listed,) = artseek.json("keys", "list")["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert made["key"].split("_", 2)[2] not in artseek("keys", "list") + artseek("audit")
    artseek("keys", "revoke", made["id"])
    artseek("keys", "revoke", made["id"], status=1)
    assert artseek.json("keys", "list") == {"keys": []}
    token = artseek("keys", "create", "--role", "admin").strip()
    assert len(token.split("_", 2)[2]) == 43


def test_share(artseek: Terminal, access: AccessStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueryClient, "collection", lambda _, name: Collection(name=name, model="m"))
    made = artseek.json("share", "create", "--collection", "art", "--days", "3", "--image", "7", "--query", "5")
    assert (made["images"], made["query"], made["by"]) == ([7], 5, "command line")
    link = access.load().links[made["id"]]
    assert (link.account, link.key, round((link.expires - link.created) / 86_400)) == ("", "", 3)
    token = made["url"].rpartition("/shared/")[2]
    assert link_id(Signing(access.signing_secrets), token) == link.id
    assert artseek.json("share", "list", "--collection", "art") == {"shares": [made]}
    assert artseek.json("share", "list", "--collection", "maps") == {"shares": []}
    assert made["url"] in artseek("share", "list", "--collection", "art")
    artseek("share", "revoke", made["id"], "--collection", "maps", status=1)
    artseek("share", "revoke", made["id"], "--collection", "art")
    assert artseek.json("share", "list", "--collection", "art") == {"shares": []}
    artseek("share", "create", "--days", "366", status=2)
