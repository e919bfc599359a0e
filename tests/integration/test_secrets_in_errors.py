"""What goes wrong tells nobody a secret: neither the pages and the API, nor logs, nor the command."""

import io
import logging
from collections.abc import Iterator
from typing import Any, Final

import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner
from pydantic import SecretStr

from cli.main import main
from services.web.app import create_app
from shared.access import AccessStore, Grant, passwords
from shared.settings import Settings
from shared.state import Client, State
from shared.storage.object_store import ObjectStore
from tests.support.processes import refusing_port
from tests.support.servers import Servers
from tests.support.web_client import picture

PASSWORD: Final = "a password that nobody may see"
WRONG: Final = "wrong-but-nobodys-business"
NOBODY: Final = "ak_0123456789ab_" + 43 * "x"
CLIENT_SECRET: Final = "the-secret-of-the-openid-client"


def broken(settings: Settings, port: int = 1) -> dict[str, dict[str, Any]]:
    """Return what may be wrong with the settings of a system, by what it is; nobody listens at the port."""
    away, index, broker = f"127.0.0.1:{port}", settings.index_url, settings.broker_url
    return {
        "nothing": {},
        "the store is away": {"s3_endpoint": away},
        "the store refuses": {"s3_secret_key": SecretStr(WRONG)},
        "the index is away": {"index_url": _at(index, away)},
        "the index refuses": {"index_url": _with_password(index)},
        "the broker refuses": {"broker_url": _with_password(broker)},
    }


def _at(url: SecretStr, address: str) -> SecretStr:
    before, _, _ = url.get_secret_value().rpartition("@")
    return SecretStr(f"{before}@{address}/0")


def _with_password(url: SecretStr) -> SecretStr:
    _, _, place = url.get_secret_value().rpartition("@")
    return SecretStr(f"redis://:{WRONG}@{place}")


@pytest.fixture
def refusing() -> Iterator[int]:
    with refusing_port() as port:
        yield port


@pytest.mark.parametrize("what", broken(Settings(_env_file=None)))  # type: ignore[call-arg]
def test_neither_answers_nor_logs_have_a_secret(
    what: str,
    servers: Servers,
    store: ObjectStore,
    redis: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refusing: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    store.ensure_bucket()
    access = AccessStore(store, State.of(redis))
    access.add_account("ann", (Grant("admin"),), password=PASSWORD, by="test")
    _, key = access.create_key((Grant("admin"),), by="test")
    settings = servers.settings.model_copy(
        update={
            "web_listen": "0.0.0.0:8080",
            "oidc_issuer": f"http://127.0.0.1:{refusing}",
            "oidc_client_id": "artseek",
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            **broken(servers.settings, refusing)[what],
        }
    )
    told, sent = list[str](), list[str]()
    client = create_app(settings).test_client()

    def ask(method: str, path: str, **options: Any) -> None:
        answer = client.open(path, method=method, **options)
        told.append(answer.get_data(as_text=True))
        told.extend(value for name, value in answer.headers if name != "Set-Cookie")
        cookies = answer.headers.getlist("Set-Cookie")
        sent.extend(value for cookie in cookies if (value := cookie.partition("=")[2].partition(";")[0]))

    for token in (key, NOBODY):
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("/collections", "/access", "/metrics", "/api/v1/users", "/none"):
            ask("GET", path, headers=headers)
        file = {"image": (io.BytesIO(picture(1)), "a.jpg")}
        ask("POST", "/api/v1/collections/art/images", headers=headers, data=file)
        ask("POST", "/api/v1/users", headers=headers, json={"name": "eve", "password": PASSWORD, "role": PASSWORD})
        ask("POST", "/api/v1/users", headers=headers, json={"name": "eve", "password": [PASSWORD]})
        ask("POST", "/access/users", headers=headers, data={"name": "ann", "password": 40 * PASSWORD})
    ask("POST", "/log-in", data={"name": "bob", "password": PASSWORD})
    ask("POST", "/log-in", data={"name": "ann", "password": PASSWORD})
    ask("POST", "/account/password", data={"password": PASSWORD, "new": 40 * PASSWORD})
    for path in ("/account", "/log-in/openid", "/log-in/openid/return?state=x&code=y"):
        ask("GET", path)
    client.set_cookie("artseek_session", "forged.session")
    ask("GET", "/account")
    shown = "\n".join([*told, caplog.text, *(str(record.__dict__) for record in caplog.records)])
    secrets = [*_secrets(settings, access), key.split("_", 2)[2], *sent]
    assert [secret for secret in secrets if secret in shown] == []


def _secrets(settings: Settings, access: AccessStore) -> list[str]:
    """Return all that nobody may be told: what settings and the store have, and what was typed."""
    held = [value.get_secret_value() for value in vars(settings).values() if isinstance(value, SecretStr)]
    parts = [part for value in held for part in (value, value.rpartition("@")[0].rpartition(":")[2]) if len(part) > 8]
    hashes = [account.password for account in access.load().accounts.values() if account.password]
    digests = [key.digest for key in access.load().keys.values()]
    return [*parts, *hashes, *digests, *access.signing_secrets(), PASSWORD, WRONG, CLIENT_SECRET]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ARTSEEK_INDEX_URL": f"nonsense://:{WRONG}@127.0.0.1:1/0"},
        {"ARTSEEK_INDEX_URL": f"redis://:{WRONG}@127.0.0.1:x/0"},
        {"ARTSEEK_BROKER_URL": f"redis+cluster://:{WRONG}@127.0.0.1:1/0"},
        {"ARTSEEK_S3_ENDPOINT": f"http://key:{WRONG}@127.0.0.1:1"},
        {"ARTSEEK_S3_SECRET_KEY": WRONG, "ARTSEEK_S3_SECRET_KEY_FILE": "/nowhere"},
        {"ARTSEEK_URL": f"http://ann:{WRONG}@127.0.0.1:1"},
        {"ARTSEEK_URL": f"ftp://ann:{WRONG}@127.0.0.1:1"},
        {"ARTSEEK_URL": "http://127.0.0.1:1", "ARTSEEK_KEY": f"{WRONG}\nX"},
        {"ARTSEEK_URL": "http://127.0.0.1:1", "ARTSEEK_KEY": WRONG},
        {"ARTSEEK_PUBLIC_URL": f"https://ann:{WRONG}@archive.example"},
        {"ARTSEEK_OIDC_ISSUER": f"https://ann:{WRONG}@login.example"},
        {"ARTSEEK_CORS_ORIGINS": f"https://ann:{WRONG}@museum.example"},
    ],
    ids=" ".join,
)
def test_the_command_tells_what_is_wrong_with_a_setting_without_it(wrong: dict[str, str]) -> None:
    closed = {
        "ARTSEEK_DATA": "/nonexistent",
        "ARTSEEK_S3_ENDPOINT": "127.0.0.1:1",
        "ARTSEEK_QUERY_TARGET": "127.0.0.1:1",
    }
    for words in (["search", "--id", "1"], ["users", "list"]):
        result = CliRunner().invoke(main, words, env={**closed, **wrong})
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert WRONG not in result.output + str(result.exc_info)
        could_be_a_key = wrong.get("ARTSEEK_KEY") == WRONG
        assert could_be_a_key or any(name in result.output for name in wrong)
