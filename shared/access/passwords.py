"""Passwords: what they have to be, and their hashes by Argon2id (RFC 9106)."""

import threading
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import Invalid

LEAST: Final = 10
MOST: Final = 1_024
_AT_ONCE = threading.BoundedSemaphore(2)  # each takes 64 MiB and some 0.1 s of the processor
_hasher = PasswordHasher()
# Of no password that anybody has; it costs what those of accounts cost. Made once: to hash takes time at every start.
_NOBODYS: Final = "$argon2id$v=19$m=65536,t=3,p=4$WZx1iQbWnv5YYZOJYC43nA$+CMVL6nK2uAPso3QdEJCQLb2Fg+QeBLktf55j3vzZ9g"


def hash_password(password: str, *, name: str) -> str:
    """Return the hash of the password of the account `name`.

    Raises:
        Invalid: The password is too short, too long or the name itself.
    """
    if not LEAST <= len(password) <= MOST:
        raise Invalid(f"the password has {len(password)} characters: use {LEAST} to {MOST:,}")
    if password.casefold() == name.casefold():
        raise Invalid("the password is the name of the account: use another")
    with _AT_ONCE:
        return _hasher.hash(password)


def fits(password: str, kept: str | None) -> bool:
    """Return whether a password is the one with this hash; no hash takes as long and fits never."""
    if len(password) > MOST:
        return False
    with _AT_ONCE:
        try:
            return _hasher.verify(kept or _NOBODYS, password) and kept is not None
        except (VerificationError, InvalidHashError):
            return False
