"""The way in by a proxy that has asked for a password already, and says in a header who it was."""

import threading
import time
from typing import Final

from flask import Request

from services.web.access.ways_in import refused
from services.web.forwarded import is_trusted
from services.web.languages import said
from services.web.public_address import PEER
from shared.access import Access, AccessStore, Account, Requester
from shared.access.identity import Identity, grants_of_groups, name_of
from shared.addresses import networks
from shared.errors import Invalid
from shared.settings import Settings

_CHECKED_S: Final = 60.0  # after which the groups of somebody are looked at again


class ProxyHeader:
    """Believes the header of a trusted proxy, and of nobody else."""

    def __init__(self, settings: Settings, access: Access, store: AccessStore) -> None:
        self._settings, self._access, self._store = settings, access, store
        self._proxies = networks(settings.trusted_proxies)
        self._seen: dict[tuple[str, str], tuple[str, float]] = {}  # header values: name of the account, and when
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Requester | None:
        """Return whom the proxy let in; None if it says nothing, or no proxy sends the request.

        Raises:
            Problem: The account of that name is somebody else's, or is shut out.
        """
        user = request.headers.get(self._settings.proxy_user_header, "").strip()
        if not user or not is_trusted(str(request.environ.get(PEER, "")), self._proxies):
            return None
        groups = request.headers.get(self._settings.proxy_groups_header or "-", "")
        try:
            account = self._known(user, groups) or self._let_in(user, groups)
        except Invalid as error:
            raise refused(said(error)) from None
        return Requester("account", account.name, account.grants)

    def _known(self, user: str, groups: str) -> Account | None:
        name, seen = self._seen.get((user, groups), ("", 0.0))
        account = self._access.account(name) if time.monotonic() - seen < _CHECKED_S else None
        return account if account is not None and account.subject == _subject(user) else None

    def _let_in(self, user: str, groups: str) -> Account:
        grants = grants_of_groups(self._settings.group_roles, [group.strip() for group in groups.split(",")])
        identity = Identity(_subject(user), name_of(user), grants, told_by=self._settings.proxy_user_header)
        with self._lock:  # the requests of a page come together
            found = self._known(user, groups)
            if found is not None:
                return found
            account = self._store.let_in(identity)
            self._seen[user, groups] = (account.name, time.monotonic())
        return account


def _subject(user: str) -> str:
    return f"proxy {user}"
