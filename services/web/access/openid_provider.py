"""The OpenID provider that people log in with: authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636).

Endpoints and keys are read from the provider itself (OpenID Connect Discovery 1.0), and read anew each hour.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests
from authlib.common.urls import add_params_to_uri
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from requests import RequestException

from services.web.languages import marked, told
from shared.access.identity import Identity, grants_of_groups, name_of
from shared.errors import ArtseekError, Unavailable
from shared.settings import Settings

_TIMEOUT_S: Final = 10.0
_FRESH_S: Final = 3600.0
_LEEWAY_S: Final = 60  # by which clocks may differ
# Signatures by a key that the provider alone has. The ones by a shared secret are not taken, and none is not one.
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class LogInRefused(ArtseekError):
    """The provider let nobody in, or what it says does not fit; the message says why."""


@dataclass(frozen=True)
class _Provider:
    """What the provider says of itself, its keys, and when that was read."""

    metadata: Mapping[str, Any]
    keys: KeySet
    read: float


class OpenIdProvider:
    """Sends people to the provider, and learns from it who they are. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._issuer = settings.oidc_issuer
        self._known: _Provider | None = None
        self._lock = threading.Lock()

    def address(self, *, return_to: str, state: str, nonce: str, verifier: str) -> str:
        """Return where to send somebody who wants to log in.

        Raises:
            Unavailable: The provider does not answer.
        """
        with self._session(return_to) as session:
            address, _ = session.create_authorization_url(
                self._provider().metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return str(address)

    def identity(self, *, answer: str, return_to: str, state: str, nonce: str, verifier: str) -> Identity:
        """Return who came back from the provider, by the address with its answer.

        Raises:
            LogInRefused: The provider let nobody in, or what it says does not fit.
            Unavailable: The provider does not answer.
        """
        metadata = self._provider().metadata
        try:
            with self._session(return_to) as session:
                token = session.fetch_token(
                    metadata["token_endpoint"],
                    authorization_response=answer,
                    state=state,
                    code_verifier=verifier,
                    timeout=_TIMEOUT_S,
                )
                claims = self._claims(str(token.get("id_token", "")), nonce)
                wanted = {self._settings.oidc_name_claim, self._settings.oidc_groups_claim}
                if wanted - claims.keys() and "userinfo_endpoint" in metadata:
                    claims = {**self._more(session, metadata["userinfo_endpoint"], claims), **claims}
        except OAuthError as error:
            reason = str(error.description or error.error)
            raise LogInRefused(told("the provider let nobody in: %(reason)s", reason=reason)) from error
        except RequestException as error:
            raise self._away(error) from error
        except ValueError as error:
            raise LogInRefused(
                told("the provider's answer is not understood: %(reason)s", reason=str(error))
            ) from error
        return self._identity(claims)

    def log_out_address(self, return_to: str) -> str | None:
        """Return where to log out at the provider too; None if it has no such place or does not answer.

        See OpenID Connect RP-Initiated Logout 1.0.
        """
        try:
            endpoint = self._provider().metadata.get("end_session_endpoint")
        except Unavailable:
            return None
        if not endpoint:
            return None
        values = [("client_id", self._settings.oidc_client_id), ("post_logout_redirect_uri", return_to)]
        return str(add_params_to_uri(str(endpoint), values))

    def _session(self, return_to: str) -> OAuth2Session:
        secret = self._settings.oidc_client_secret.get_secret_value()
        methods = self._provider().metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return OAuth2Session(
            self._settings.oidc_client_id,
            secret or None,
            token_endpoint_auth_method=method if secret else "none",
            scope=self._settings.oidc_scopes,
            redirect_uri=return_to,
            code_challenge_method="S256",
        )

    def _claims(self, id_token: str, nonce: str) -> dict[str, Any]:
        """Return what an ID token says, once its signature and whom it is for are checked (Core 1.0, 3.1.3.7).

        Raises:
            LogInRefused: It does not fit.
        """
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": str(self._provider().metadata["issuer"])},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = self._decoded(id_token)
            registry.validate(claims)
        except (JoseError, ValueError) as error:
            raise LogInRefused(told("the provider's token does not fit: %(reason)s", reason=str(error))) from error
        audience = claims["aud"]
        many = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", self._settings.oidc_client_id if not many else None) != self._settings.oidc_client_id:
            raise LogInRefused(marked("the provider's token is for another service"))
        return claims

    def _decoded(self, id_token: str) -> dict[str, Any]:
        """Return the claims of a token with a good signature; a provider that has changed its keys is asked for them.

        Raises:
            JoseError: The signature does not fit.
            ValueError: It is no token, or by no key of the provider.
        """
        try:
            token = jwt.decode(id_token, self._provider().keys, algorithms=list(_ALGORITHMS))
        except (JoseError, ValueError):
            token = jwt.decode(id_token, self._provider(fresh=True).keys, algorithms=list(_ALGORITHMS))
        return dict(token.claims)

    @staticmethod
    def _more(session: OAuth2Session, endpoint: str, claims: Mapping[str, Any]) -> dict[str, Any]:
        answer = session.get(endpoint, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        told = answer.json()
        if not isinstance(told, dict) or told.get("sub") != claims["sub"]:
            raise LogInRefused(marked("what the provider says is of somebody else"))
        return told

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        groups = claims.get(self._settings.oidc_groups_claim, [])
        if isinstance(groups, str):
            groups = [groups]
        return Identity(
            subject=f"{claims['iss']} {claims['sub']}",
            name=name_of(claims.get(self._settings.oidc_name_claim), claims.get("email"), claims["sub"]),
            grants=grants_of_groups(self._settings.group_roles, map(str, groups)),
            told_by=self._issuer,
        )

    def _provider(self, *, fresh: bool = False) -> _Provider:
        """Return what is known of the provider; with `fresh`, read now, though at most each second.

        Raises:
            Unavailable: It does not answer, or says nothing of use.
        """
        with self._lock:
            known = self._known
            if known is not None and time.monotonic() - known.read < (1.0 if fresh else _FRESH_S):
                return known
            try:
                metadata = self._read(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if str(metadata["issuer"]).rstrip("/") != self._issuer.rstrip("/"):
                    raise Unavailable(
                        f"the OpenID provider at {self._issuer} calls itself {metadata['issuer']}: set "
                        "ARTSEEK_OIDC_ISSUER to that"
                    )
                keys = KeySet.import_key_set(self._read(str(metadata["jwks_uri"])))  # type: ignore[arg-type]
            except RequestException as error:
                raise self._away(error) from error
            except (KeyError, ValueError, TypeError, JoseError) as error:
                raise Unavailable(
                    f"the OpenID provider at {self._issuer} does not say what it has to: {error}"
                ) from error
            self._known = _Provider(metadata, keys, time.monotonic())
            return self._known

    @staticmethod
    def _read(address: str) -> dict[str, Any]:
        answer = requests.get(address, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        values = answer.json()
        if not isinstance(values, dict):
            raise ValueError(f"{address} answers no JSON object")
        return values

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(f"the OpenID provider at {self._issuer} does not answer: {error}")
