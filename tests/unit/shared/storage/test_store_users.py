"""The users of a MinIO, made at a stand-in of its interface for administrators."""

import io
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from minio.crypto import decrypt

from shared.settings import environment_name
from shared.storage.store_users import main
from tests.support.http_answers import Answer, answering

pytestmark = pytest.mark.slow  # it starts a server

OWNER = "the secret of the owner"
POLICY = {"Version": "2012-10-17", "Statement": []}


class Store:
    """Notes what it is asked, and answers all with the same status."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 200

    def __call__(self, request: BaseHTTPRequestHandler) -> Answer:
        assert "Credential=owner/" in request.headers["Authorization"]
        parts = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        values = {name: found[0] for name, found in parse_qs(parts.query).items()}
        self.asked.append((request.command, parts.path, values, body))
        return (self.status if "/admin/" in parts.path else 200), {}, b"no"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text("embedder access-1 secret-1-of-embedder\nquery access-2 secret-2-of-query\n")
    (tmp_path / "embedder.json").write_text(json.dumps(POLICY))
    (tmp_path / "query.json").write_text(json.dumps(POLICY | {"Id": "query"}))
    return tmp_path


def run(store: Store, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("shared.storage.store_users.configure", lambda _: None)  # of the whole process
    with answering(store) as address:
        for field, value in {
            "s3_endpoint": address.removeprefix("http://"),
            "s3_access_key": "owner",
            "s3_secret_key": OWNER,
        }.items():
            monkeypatch.setenv(environment_name(field), value)
        return main(arguments)


def secret_in(body: bytes) -> Any:
    response = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
    return json.loads(decrypt(response, OWNER))["secretKey"]


def test_each_service_gets_a_user_with_its_rights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for _ in range(2):  # it may be run again
        assert run(store, monkeypatch, str(folder / "keys"), str(folder)) == 0
    admin = [(path.rpartition("/")[2], values, body) for _, path, values, body in store.asked if "/admin/" in path]
    assert len(admin) == 12
    policy, user, given = admin[3:6]
    assert (policy[0], policy[1], json.loads(policy[2])) == (
        "add-canned-policy",
        {"name": "artseek-query"},
        POLICY | {"Id": "query"},
    )
    assert (user[0], user[1], secret_in(user[2])) == ("add-user", {"accessKey": "access-2"}, "secret-2-of-query")
    assert given[1] == {"userOrGroup": "access-2", "isGroup": "false", "policyName": "artseek-query"}
    assert all(b"secret-" not in body for _, _, body in admin)


def test_stores_that_know_their_users_get_a_bucket_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    assert run(store, monkeypatch) == 0
    assert {path for _, path, _, _ in store.asked} == {"/artseek"}


def test_what_does_not_fit_is_told_without_a_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    store.status = 403
    assert run(store, monkeypatch, str(folder / "keys"), str(folder)) == 1
    assert "does not take the user of 'embedder'" in caplog.text
    (folder / "keys").write_text("embedder access-1 secret-1-of-embedder more\n")
    assert run(store, monkeypatch, str(folder / "keys"), str(folder)) == 1
    (folder / "keys").write_text("nobody access-1 secret-1-of-embedder\n")
    assert run(store, monkeypatch, str(folder / "keys"), str(folder)) == 1
    assert run(store, monkeypatch, "keys") == 2
    assert "secret-" not in caplog.text
    assert OWNER not in caplog.text
