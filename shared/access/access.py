"""Who may do what, answered from a copy of accounts, keys and collections that follows every change at once."""

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.access import key_secrets
from shared.access.accounts import AccessState, Account, ApiKey
from shared.access.links import ShareLink
from shared.access.roles import OWNER, Action, Requester
from shared.errors import Unavailable

_LONGEST_S: Final = 60.0  # how old the copy may be, whatever is said of changes
_SILENCE_S: Final = 5.0  # for which a Redis that did not answer is not asked again


class Access:
    """Answers who may do what.

    `load` reads all from the object store, `version` asks Redis for the latest change. While Redis is away, the copy
    counts for a minute, and is then read anew. Threads may share it.
    """

    def __init__(
        self,
        load: Callable[[], AccessState],
        version: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._ask, self._clock = load, version, clock
        self._state = AccessState()
        self._version: str | None = None
        self._read = self._silent_until = float("-inf")
        self._lock = threading.Lock()

    def state(self) -> AccessState:
        """Return accounts, keys and collections as they are now.

        Raises:
            Unavailable: They have to be read, and the object store does not answer.
        """
        version = self._latest()
        if self._is_fresh(version):
            return self._state
        with self._lock:
            if self._is_fresh(version):
                return self._state
            began = self._clock()  # what changes while it is read is read again, since its version is another
            self._state = self._load()
            self._version, self._read = version, began
            return self._state

    def may(self, requester: Requester, action: Action, collection: str | None) -> bool:
        """Return whether somebody may do something in a collection; None: in all of them, and in the system."""
        return requester.kind == "owner" or self.state().may(requester, action, collection)

    def may_somewhere(self, requester: Requester, action: Action) -> bool:
        """Return whether somebody may do something in any collection at all."""
        return requester.kind == "owner" or self.state().may_somewhere(requester, action)

    def account(self, name: str) -> Account | None:
        """Return an account that may do something; None if there is none, or it is shut out."""
        account = self.state().accounts.get(name)
        return None if account is None or account.disabled else account

    def holder_of(self, token: str) -> Requester | None:
        """Return who holds an API key, given as it was sent; None if it is none, has ended or was revoked."""
        parts = key_secrets.parts_of(token)
        if parts is None:
            return None
        key = self.state().keys.get(parts[0])
        if key is None or not key_secrets.same(key.digest, parts[1]):
            return None
        return self._holder(key)

    def _holder(self, key: ApiKey) -> Requester | None:
        """Return who holds a key; None if it has ended, or its account is gone or shut out."""
        if key.expires is not None and key.expires <= time.time():
            return None
        if not key.account:
            return Requester("key", key.id, key.grants)
        account = self.account(key.account)
        if account is None:
            return None
        return Requester("key", key.id, key.grants, within=account.grants, key_of=account.name)

    def links(self) -> list[ShareLink]:
        """Return the share links that have not ended."""
        return [link for link in self.state().links.values() if self._holds(link)]

    def link(self, name: str) -> ShareLink | None:
        """Return a share link by its id; None if there is none, or it has ended."""
        link = self.state().links.get(name)
        return link if link is not None and self._holds(link) else None

    def _holds(self, link: ShareLink) -> bool:
        """Return whether a link has time left, and whoever made it may still share its collection."""
        maker = self._maker(link)
        return link.expires > time.time() and maker is not None and maker.has_role("curator", link.collection)

    def _maker(self, link: ShareLink) -> Requester | None:
        """Return who made a link; None if their account or key is gone, or shut out."""
        if link.key:
            key = self.state().keys.get(link.key)
            return None if key is None else self._holder(key)
        if not link.account:
            return OWNER  # the command beside the servers
        account = self.account(link.account)
        return None if account is None else Requester("account", account.name, account.grants)

    def _latest(self) -> str | None:
        """Return what names the latest change; None if nobody knows."""
        if self._clock() < self._silent_until:
            return None
        try:
            return self._ask()
        except Unavailable:
            self._silent_until = self._clock() + _SILENCE_S
            return None

    def _is_fresh(self, version: str | None) -> bool:
        if self._clock() - self._read >= _LONGEST_S:
            return False
        return version is None or version == self._version
