"""Signs what others keep: cookies and the addresses of share links."""

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from itsdangerous import BadSignature, Signer

from shared.access.links import ShareLink

_SHARE_LINK: Final = "share link"


class Signing:
    """Signs what others keep, with secrets that all processes read from the object store."""

    def __init__(self, secrets: Callable[[], list[str]]) -> None:
        self._read = secrets
        self._secrets: list[str] | None = None
        self._lock = threading.Lock()

    def sign(self, text: str, *, salt: str) -> str:
        """Return a text with its signature."""
        return self._signer(salt).sign(text).decode()

    def read(self, signed: str, *, salt: str) -> str | None:
        """Return the text that was signed; None if it was not, or for something else."""
        try:
            return self._signer(salt).unsign(signed).decode()
        except (BadSignature, UnicodeError):
            return None

    def _signer(self, salt: str) -> Signer:
        with self._lock:
            if self._secrets is None:
                self._secrets = self._read()
        return Signer(list(self._secrets), salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)


def link_token(signing: Signing, link: ShareLink) -> str:
    """Return what the address of a share link ends with."""
    return signing.sign(link.id, salt=_SHARE_LINK)


def link_id(signing: Signing, token: str) -> str | None:
    """Return the id of the share link whose address ends with a token; None if nobody here signed it."""
    return signing.read(token, salt=_SHARE_LINK)
