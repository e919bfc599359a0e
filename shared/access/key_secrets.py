"""The secrets of API keys: ``ak_<id>_<secret>``, of which the id and a digest are kept."""

import hashlib
import hmac
import re
import secrets
from typing import Final

_TOKEN: Final = re.compile(r"ak_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_BYTES: Final = 32


def new_token() -> tuple[str, str, str]:
    """Return a new key as it is shown once, its id, and the digest of its secret."""
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(_BYTES)
    return f"ak_{key}_{secret}", key, _digest(secret)


def parts_of(token: str) -> tuple[str, str] | None:
    """Return id and digest of a key as somebody sent it; None if it cannot be one."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else (found[1], _digest(found[2]))


def same(digest: str, other: str) -> bool:
    """Return whether two digests are the same, in a time that does not tell how far."""
    return hmac.compare_digest(digest, other)


def _digest(secret: str) -> str:
    # 256 random bits cannot be guessed, so a slow hash would only slow down requests.
    return hashlib.sha256(secret.encode()).hexdigest()
