"""Log-ins that are under way at an OpenID provider: each can be finished once, within ten minutes."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from shared.state.connection import Client, guarded
from shared.versioned import StoredKind

KEPT_S: Final = 600
_KIND = StoredKind("log-in under way")


@dataclass(frozen=True)
class PendingLogIn:
    """What was sent along: the secret behind the code challenge (RFC 7636), the nonce, and the page to go on to."""

    verifier: str
    nonce: str
    next: str


class PendingLogIns:
    """Keeps log-ins by their states, which only the browser and the provider know."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def keep(self, state: str, pending: PendingLogIn) -> None:
        """Keep a log-in."""
        with guarded():
            self._redis.set(_key(state), _KIND.dumps(asdict(pending)), ex=KEPT_S)

    def take(self, state: str) -> PendingLogIn | None:
        """Return a log-in, which is forgotten; None if there is none, or it was taken before."""
        with guarded():
            value = self._redis.getdel(_key(state))
        return None if value is None else _KIND.loads(value, _pending, place="log-in")


def _key(state: str) -> str:
    return f"log-in:{hashlib.sha256(state.encode()).hexdigest()}"


def _pending(values: Mapping[str, Any]) -> PendingLogIn:
    return PendingLogIn(str(values["verifier"]), str(values["nonce"]), str(values["next"]))
