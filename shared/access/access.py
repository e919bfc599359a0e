"""Who may do what, answered from a copy of accounts, keys and collections that follows every change at once."""

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.access import key_secrets
from shared.access.accounts import AccessState, Account
from shared.access.links import ShareLink
from shared.access.roles import Action, Requester
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
        return self.state().account(name)

    def holder_of(self, token: str) -> Requester | None:
        """Return who holds an API key, given as it was sent; None if it is none, has ended or was revoked."""
        parts = key_secrets.parts_of(token)
        if parts is None:
            return None
        state = self.state()
        key = state.keys.get(parts[0])
        if key is None or not key_secrets.same(key.digest, parts[1]):
            return None
        return state.holder(key)

    def links(self) -> list[ShareLink]:
        """Return the share links that have not ended."""
        state = self.state()
        return [link for link in state.links.values() if state.holds(link)]

    def link(self, name: str) -> ShareLink | None:
        """Return a share link by its id; None if there is none, or it has ended."""
        state = self.state()
        link = state.links.get(name)
        return link if link is not None and state.holds(link) else None

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
