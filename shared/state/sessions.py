"""Sessions of those who are logged in by a browser. Whoever reads them here cannot use them: ids are kept hashed."""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from shared.state.connection import Client, guarded
from shared.versioned import StoredKind

KEPT_S: Final = 7 * 24 * 3600
"""How long an unused session lasts."""

LONGEST_S: Final = 30 * 24 * 3600
"""How long a session lasts at most."""

ROTATED_S: Final = 24 * 3600
"""How long a session has one id."""

_GRACE_S: Final = 60  # in which requests that were on their way may still come with the former id
_KIND = StoredKind("session")


@dataclass(frozen=True)
class Session:
    """A session: the account, the account's stamp at log-in, when it began, and when it got its id."""

    account: str
    stamp: str
    began: float
    rotated: float


class Sessions:
    """Keeps sessions."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def begin(self, account: str, stamp: str) -> str:
        """Begin a session; returns its id, which is known to nobody else."""
        now = time.time()
        return self._keep(Session(account, stamp, began=now, rotated=now))

    def get(self, session: str) -> Session | None:
        """Return a session by its id; None if it has ended."""
        with guarded():
            value = self._redis.get(_key(session))
        if value is None:
            return None
        found = _KIND.loads(value, _session, place="session")
        return found if time.time() - found.began < LONGEST_S else None

    def rotate(self, session: str, found: Session) -> str | None:
        """Give a session a new id if it has had this one for a day; returns it, None if it keeps the old one."""
        now = time.time()
        if now - found.rotated < ROTATED_S:
            return None
        with guarded():  # one request of those that come together does it
            if not self._redis.set(f"{_key(session)}:rotated", b"", nx=True, ex=_GRACE_S):
                return None
        new = self._keep(Session(found.account, found.stamp, found.began, rotated=now))
        with guarded():
            self._redis.expire(_key(session), _GRACE_S)
        return new

    def end(self, session: str) -> None:
        """End a session."""
        with guarded():
            self._redis.delete(_key(session))

    def _keep(self, session: Session) -> str:
        made = secrets.token_urlsafe(32)
        with guarded():
            self._redis.set(_key(made), _KIND.dumps(asdict(session)), ex=KEPT_S)
        return made


def _key(session: str) -> str:
    return f"session:{hashlib.sha256(session.encode()).hexdigest()}"


def _session(values: Mapping[str, Any]) -> Session:
    return Session(str(values["account"]), str(values["stamp"]), float(values["began"]), float(values["rotated"]))
