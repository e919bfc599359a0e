"""Accounts, API keys and the access of collections in the object store: read whole, changed one at a time."""

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from shared.access import key_secrets
from shared.access.accounts import (
    ACCOUNT,
    COLLECTION,
    KEY,
    PRIVATE,
    AccessState,
    Account,
    ApiKey,
    CollectionAccess,
    account_name,
)
from shared.access.identity import Identity
from shared.access.links import LINK, MOST_DAYS, ShareLink
from shared.access.passwords import hash_password
from shared.access.roles import Grant
from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.state import State
from shared.state.locks import Lock
from shared.storage import access_layout, layout
from shared.storage.object_store import ObjectStore, StoredObject
from shared.versioned import StoredKind

_log = logging.getLogger(__name__)

_JSON: Final = "application/json"
_READS: Final = 8  # at a time
_WAIT_S: Final = 5.0
_LOCK: Final = Lock("access", "another process changes accounts or keys; try again")
_SIGNING: Final = StoredKind("signing secrets")
_KEY_ID: Final = re.compile(r"[0-9a-f]{12}")
MOST_NOTE: Final = 200

Made = TypeVar("Made")


@dataclass(frozen=True)
class _Read:
    """An object as it was read, and what its listing said then."""

    item: StoredObject
    data: bytes


class AccessStore:
    """Reads and changes who may do what. Each change is one object, and counts for all at once: see `AccessMarks`."""

    def __init__(self, store: ObjectStore, state: State) -> None:
        self._store, self._state = store, state
        self._kept: dict[str, _Read] = {}

    # All of it

    def load(self) -> AccessState:
        """Return all accounts, keys and collections; only what has changed since the last time is read.

        Raises:
            Unavailable: The object store does not answer.
        """
        prefixes = (
            access_layout.ACCOUNTS,
            access_layout.API_KEYS,
            access_layout.COLLECTION_ACCESS,
            access_layout.LINKS,
        )
        items = [item for prefix in prefixes for item in self._store.list(prefix) if item.key.endswith(".json")]
        kept = self._kept
        changed = [item for item in items if item.key not in kept or not item.etag or kept[item.key].item != item]
        with ThreadPoolExecutor(_READS, thread_name_prefix="access") as pool:
            read = {found.item.key: found for found in pool.map(self._read, changed) if found is not None}
        self._kept = {key: found for item in items for key in [item.key] if (found := read.get(key) or kept.get(key))}
        accounts = dict(self._all(access_layout.ACCOUNTS, ACCOUNT, Account.from_json))
        keys = dict(self._all(access_layout.API_KEYS, KEY, ApiKey.from_json))
        collections = dict(self._all(access_layout.COLLECTION_ACCESS, COLLECTION, CollectionAccess.from_json))
        return AccessState(
            accounts={account.name: account for account in accounts.values()},
            keys={key.id: key for key in keys.values()},
            collections=collections,
            links=dict(self._all(access_layout.LINKS, LINK, ShareLink.from_json)),
        )

    def _all(self, prefix: str, kind: StoredKind, make: Callable[[Any], Made]) -> Iterator[tuple[str, Made]]:
        """Yield what was read below a prefix, by its name; what cannot be read allows nothing to anybody."""
        for key, found in sorted(self._kept.items()):
            if key.startswith(prefix):
                try:
                    made = kind.loads(found.data, make, place=key)
                except Invalid as error:
                    _log.error("%s; it is passed over", error)
                    continue
                yield key.removeprefix(prefix).removesuffix(".json"), made

    def _read(self, item: StoredObject) -> _Read | None:
        try:
            return _Read(item, self._store.get(item.key))
        except ObjectNotFound:  # removed since it was listed
            return None

    # Accounts

    def account(self, name: str) -> Account:
        """Return an account.

        Raises:
            NotFound: There is none of this name.
        """
        found = self._get(access_layout.account_key(account_name(name)), ACCOUNT, Account.from_json)
        if found is None:
            raise NotFound(f"there is no account {name[:80]!r}; `artseek users list` lists them")
        return found

    def add_account(self, name: str, grants: tuple[Grant, ...], *, password: str | None, by: str) -> Account:
        """Add an account.

        Raises:
            Invalid: There is one of this name, or name or password do not fit.
        """
        wanted = account_name(name)
        hashed = None if password is None else hash_password(password, name=wanted)
        with self._changing():
            key = access_layout.account_key(wanted)
            if self._store.exists(key):
                raise Invalid(f"there is an account {wanted!r} already: use another name, or change it")
            account = Account(wanted, hashed, grants, disabled=False, stamp=_stamp(), created=time.time(), by=by)
            self._put(key, ACCOUNT, account.to_json())
        return account

    def let_in(self, identity: Identity) -> Account:
        """Return the account of somebody whom others have let in: made now, or with the roles that they tell.

        Raises:
            Invalid: Its name is that of somebody else's account, or it is shut out.
        """
        with self._changing():
            accounts = self.load().accounts
            known = next((account for account in accounts.values() if account.subject == identity.subject), None)
            if known is None:
                name = account_name(identity.name)
                if name in accounts:
                    raise Invalid(
                        f"the account {name!r} is somebody else's here: an administrator can remove it, or give it "
                        "another name"
                    )
                known = Account(
                    name,
                    None,
                    identity.grants or (),
                    disabled=False,
                    stamp=_stamp(),
                    created=time.time(),
                    by=identity.told_by,
                    subject=identity.subject,
                )
            elif identity.grants is None or set(identity.grants) == set(known.grants):
                return _let_in(known)
            else:
                known = replace(known, grants=identity.grants, stamp=_stamp())
            self._put(access_layout.account_key(known.name), ACCOUNT, known.to_json())
        return _let_in(known)

    def set_password(self, name: str, password: str) -> Account:
        """Give an account another password; its sessions end."""
        hashed = hash_password(password, name=account_name(name))
        return self._change_account(name, lambda account: replace(account, password=hashed, stamp=_stamp()))

    def set_grants(self, name: str, grants: tuple[Grant, ...]) -> Account:
        """Give an account other roles; its sessions end."""
        return self._change_account(name, lambda account: replace(account, grants=grants, stamp=_stamp()))

    def set_disabled(self, name: str, *, disabled: bool) -> Account:
        """Shut an account out, or let it in again; its sessions end, and its keys rest."""
        return self._change_account(name, lambda account: replace(account, disabled=disabled, stamp=_stamp()))

    def end_sessions(self, name: str) -> Account:
        """End all sessions of an account."""
        return self._change_account(name, lambda account: replace(account, stamp=_stamp()))

    def remove_account(self, name: str) -> None:
        """Remove an account, with its keys and share links."""
        account = self.account(name)
        with self._changing():
            state = self.load()
            keys = [key.id for key in state.keys.values() if key.account == account.name]
            links = [link.id for link in state.links.values() if link.account == account.name]
            self._store.delete(
                [
                    *map(access_layout.api_key_key, keys),
                    *map(access_layout.link_key, links),
                    access_layout.account_key(account.name),
                ]
            )
        for key in keys:
            self._state.access_marks.forget_key(key)

    def _change_account(self, name: str, change: Callable[[Account], Account]) -> Account:
        with self._changing():
            account = change(self.account(name))
            self._put(access_layout.account_key(account.name), ACCOUNT, account.to_json())
        return account

    # Keys

    def create_key(
        self, grants: tuple[Grant, ...], *, account: str = "", days: float | None = None, note: str = "", by: str
    ) -> tuple[ApiKey, str]:
        """Make an API key; returns it, and as it is sent, which is shown now and never again.

        Args:
            grants: Its roles.
            account: To which it belongs, beyond whose roles it does not go; empty: to nobody.
            days: After which it ends; None: it does not.
            note: What it is for.
            by: Who makes it.

        Raises:
            Invalid: A value does not fit.
        """
        if days is not None and not 0 < days <= 36_500:
            raise Invalid(f"a key cannot expire after {days:g} days: use more than 0 and at most 36500")
        if len(note) > MOST_NOTE or not note.isprintable():
            raise Invalid(f"the note of a key has at most {MOST_NOTE} characters, all of them printable")
        token, name, digest = key_secrets.new_token()
        now = time.time()
        expires = None if days is None else now + days * 86_400
        key = ApiKey(name, digest, grants, account, note, created=now, expires=expires, by=by)
        with self._changing():
            self._put(access_layout.api_key_key(key.id), KEY, key.to_json())
        return key, token

    def revoke_key(self, key: str) -> None:
        """End an API key.

        Raises:
            NotFound: There is none with this id.
        """
        with self._changing():
            if not _KEY_ID.fullmatch(key) or not self._store.exists(access_layout.api_key_key(key)):
                raise NotFound(f"there is no API key {key[:80]!r}; `artseek keys list` lists them")
            self._store.delete([access_layout.api_key_key(key)])
        self._state.access_marks.forget_key(key)

    # Collections

    def collection(self, name: str) -> CollectionAccess:
        """Return whom a collection is open to."""
        found = self._get(access_layout.collection_access_key(name), COLLECTION, CollectionAccess.from_json)
        return found or PRIVATE

    def set_collection(self, name: str, access: CollectionAccess) -> None:
        """Say whom a collection is open to."""
        key = access_layout.collection_access_key(layout.collection_name(name))
        with self._changing():
            self._put(key, COLLECTION, vars(access))

    def forget_collection(self, name: str) -> None:
        """Remove what is said of a collection that is gone: a later one of its name is open to nobody by it."""
        self._move_collection(name, None)

    def rename_collection(self, name: str, new: str) -> None:
        """Move what is said of a collection to its new name; may be done twice."""
        self._move_collection(name, layout.collection_name(new))

    def _move_collection(self, name: str, new: str | None) -> None:
        with self._changing():
            state = self.load()
            for account in state.accounts.values():
                if (moved := _moved(account.grants, name, new)) != account.grants:
                    changed = replace(account, grants=moved, stamp=_stamp())
                    self._put(access_layout.account_key(account.name), ACCOUNT, changed.to_json())
            for key in state.keys.values():
                if (moved := _moved(key.grants, name, new)) != key.grants:
                    self._put(access_layout.api_key_key(key.id), KEY, replace(key, grants=moved).to_json())
            for link in state.links.values():
                if link.collection == name:
                    if new is None:
                        self._store.delete([access_layout.link_key(link.id)])
                    else:
                        self._put(access_layout.link_key(link.id), LINK, replace(link, collection=new).to_json())
            access = state.collections.get(name)
            if access is not None:
                if new is not None:
                    self._put(access_layout.collection_access_key(new), COLLECTION, vars(access))
                self._store.delete([access_layout.collection_access_key(name)])

    # Links

    def create_link(
        self,
        collection: str,
        *,
        images: tuple[int, ...] = (),
        query: int = 0,
        account: str = "",
        key: str = "",
        days: float,
    ) -> ShareLink:
        """Make a share link of a collection, or of some of its images; those that have run out are removed.

        Args:
            collection: Its name.
            images: Ids of the images that it shows; none: it shows all.
            query: Id of the image that they were found by; 0: none.
            account: Whose account makes it; empty, without a key: the operator.
            key: The API key that makes it; empty: none.
            days: After which it ends.

        Raises:
            Invalid: It is to last for no time, or too long.
        """
        if not 0 < days <= MOST_DAYS:
            raise Invalid(f"a link cannot last for {days:g} days: use 1 to {MOST_DAYS}")
        now = time.time()
        link = ShareLink(secrets.token_hex(12), collection, images, query, account, now, now + days * 86_400, key)
        with self._changing():
            ended = [found.id for found in self.load().links.values() if found.expires <= now]
            self._store.delete(list(map(access_layout.link_key, ended)))
            self._put(access_layout.link_key(link.id), LINK, link.to_json())
        return link

    def revoke_link(self, link: str) -> None:
        """End a share link, given by the id of one that there is."""
        with self._changing():
            self._store.delete([access_layout.link_key(link)])

    # Signing

    def signing_secrets(self) -> list[str]:
        """Return the secrets that cookies and links are signed with, made now if there are none; the last one signs."""
        found = self._signing()
        if found is None:
            with self._changing():
                found = self._signing()
                if found is None:
                    found = [secrets.token_hex(32)]
                    self._put(access_layout.SIGNING, _SIGNING, {"secrets": found})
        return found

    def _signing(self) -> list[str] | None:
        return self._get(access_layout.SIGNING, _SIGNING, lambda values: [str(secret) for secret in values["secrets"]])

    # Objects

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock over the block, and tell all who look at requests that something has changed."""
        with self._state.locks.hold(_LOCK, wait_s=_WAIT_S):
            try:
                yield
            finally:
                self._state.access_marks.touch()

    def _put(self, key: str, kind: StoredKind, value: Mapping[str, Any]) -> None:
        self._store.put(key, kind.dumps(value, indent=2), _JSON)

    def _get(self, key: str, kind: StoredKind, make: Callable[[Any], Made]) -> Made | None:
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return kind.loads(data, make, place=key)


def _let_in(account: Account) -> Account:
    if account.disabled:
        raise Invalid(f"the account {account.name!r} is shut out: an administrator can let it in again")
    return account


def _moved(grants: tuple[Grant, ...], name: str, new: str | None) -> tuple[Grant, ...]:
    """Return roles with a collection's under its new name, or without them."""
    if new is None:
        return tuple(grant for grant in grants if grant.collection != name)
    return tuple(replace(grant, collection=new) if grant.collection == name else grant for grant in grants)


def _stamp() -> str:
    return secrets.token_hex(8)
