"""Tokens that do not fit let nobody in: each differs from a good one in one thing. The provider is a server here."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from pydantic import SecretStr

from services.web.access.openid_provider import LogInRefused, OpenIdProvider
from shared.access import Grant
from shared.access.identity import Identity
from shared.errors import Unavailable
from shared.settings import Settings
from tests.support.http_answers import Answer, answering

BACK = "https://archive.example/log-in/openid/return"
KEY, OTHER = (RSAKey.generate_key(2048, {"kid": kid, "use": "sig"}) for kid in ("1", "2"))


class Provider:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.documents: dict[str, Any] = {}
        self.asked: list[str] = []

    def issue(self, *, key: Any = KEY, algorithm: str = "RS256", kid: str = "1", **claims: Any) -> None:
        """Issue a good token, but for what is given; a claim that is None is left out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": "artseek", "sub": "7", "exp": now + 300, "iat": now, "nonce": "n"}
        values = {name: value for name, value in {**good, **claims}.items() if value is not None}
        token = jwt.encode({"alg": algorithm, "kid": kid}, values, key, algorithms=[algorithm])
        self.documents["/token"] = {"access_token": "a", "token_type": "Bearer", "id_token": token}


@pytest.fixture
def server() -> Iterator[Provider]:
    told = Provider()

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        told.asked.append(request.path)
        return 200, {"Content-Type": "application/json"}, json.dumps(told.documents[request.path]).encode()

    with answering(answer) as told.url:
        told.documents = {
            "/.well-known/openid-configuration": {
                "issuer": told.url,
                "authorization_endpoint": f"{told.url}/authorize",
                "token_endpoint": f"{told.url}/token",
                "userinfo_endpoint": f"{told.url}/userinfo",
                "jwks_uri": f"{told.url}/keys",
            },
            "/keys": {"keys": [KEY.as_dict(private=False)]},
            "/userinfo": {"sub": "7", "preferred_username": "Ann"},
        }
        yield told


def provider_of(server: Provider, **values: Any) -> OpenIdProvider:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    wanted = {"oidc_issuer": server.url, "oidc_client_id": "artseek", "oidc_client_secret": SecretStr("secret")}
    return OpenIdProvider(settings.model_copy(update={**wanted, **values}))


def come_back(provider: OpenIdProvider) -> Identity:
    answer = f"{BACK}?code=c&state=s"
    return provider.identity(answer=answer, return_to=BACK, state="s", nonce="n", verifier="v" * 43)


def test_a_good_token_lets_in_and_the_rest_is_asked_for(server: Provider) -> None:
    server.issue()
    found = come_back(provider_of(server))
    assert found == Identity(f"{server.url} 7", "ann", None, server.url)
    server.issue(
        preferred_username="bob@example.org", groups=["cn=staff,ou=groups", "x"], aud=["artseek", "b"], azp="artseek"
    )
    server.asked.clear()
    found = come_back(provider_of(server, group_roles="cn=staff,ou=groups=viewer:art"))
    assert (found.name, found.grants) == ("bob@example.org", (Grant("viewer", "art"),))
    assert "/userinfo" not in server.asked


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": ["artseek", "another"]},
        {"aud": ["artseek", "another"], "azp": "another"},
        {"azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"sub": None},
        {"key": OTHER},
        {"key": OTHER, "kid": "2"},
        {"key": OctKey.import_key("secret" * 8), "algorithm": "HS256"},
    ],
    ids="-".join,
)
def test_a_token_that_does_not_fit_lets_nobody_in(server: Provider, wrong: dict[str, Any]) -> None:
    server.issue(**wrong)
    with pytest.raises(LogInRefused, match="the provider's token"):
        come_back(provider_of(server))


def test_a_token_without_a_signature_lets_nobody_in(server: Provider) -> None:
    server.issue()
    head, body, _ = server.documents["/token"]["id_token"].split(".")
    server.documents["/token"]["id_token"] = f"eyJhbGciOiJub25lIn0.{body}."
    with pytest.raises(LogInRefused, match="the provider's token does not fit"):
        come_back(provider_of(server))
    server.documents["/token"]["id_token"] = f"{head}.{body}.AAAA"
    with pytest.raises(LogInRefused, match="the provider's token does not fit"):
        come_back(provider_of(server))


def test_new_keys_of_the_provider_are_read(server: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = provider_of(server)
    server.issue()
    come_back(provider)
    server.documents["/keys"] = {"keys": [OTHER.as_dict(private=False)]}
    server.issue(key=OTHER, kid="2")
    now = time.monotonic()
    monkeypatch.setattr("services.web.access.openid_provider.time.monotonic", lambda: now + 5)
    assert come_back(provider).name == "ann"


def test_what_the_provider_says_of_somebody_else_does_not_count(server: Provider) -> None:
    server.issue()
    server.documents["/userinfo"] = {"sub": "8", "preferred_username": "admin"}
    with pytest.raises(LogInRefused, match="somebody else"):
        come_back(provider_of(server))


def test_a_provider_that_is_another_or_says_too_little_is_told(server: Provider) -> None:
    configuration = server.documents["/.well-known/openid-configuration"]
    configuration["issuer"] = "https://another.example"
    with pytest.raises(Unavailable, match=r"calls itself https://another.example: set ARTSEEK_OIDC_ISSUER"):
        come_back(provider_of(server))
    configuration["issuer"] = server.url
    del configuration["jwks_uri"]
    with pytest.raises(Unavailable, match="does not say what it has to"):
        come_back(provider_of(server))
