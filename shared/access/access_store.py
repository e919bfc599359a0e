"""Accounts, API keys, share links and the access of collections in the object store, changed one at a time."""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from shared.access import key_secrets
from shared.access.access_reader import AccessReader
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
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_JSON: Final = "application/json"
_WAIT_S: Final = 5.0
_LOCK: Final = Lock("access", "another process changes accounts or keys; try again")
_SIGNING: Final = StoredKind("signing secrets")
_KEY_ID: Final = re.compile(r"[0-9a-f]{12}")
MOST_NOTE: Final = 200
MOST_KEYS: Final = 100  # of an account, at a time: every process knows all of them, and a person has few programs
MOST_LINKS: Final = 1_000  # of a collection, at a time: every process knows all of them

Made = TypeVar("Made")


class AccessStore:
    """Reads and changes who may do what. Each change is one object, and counts for all at once: see `AccessMarks`."""

    def __init__(self, store: ObjectStore, state: State) -> None:
        self._store, self._state = store, state
        self._reader = AccessReader(store)

    # All of it

    def load(self) -> AccessState:
        """Return all accounts, keys and collections; only what has changed since the last time is read.

        Raises:
            Unavailable: The object store does not answer.
        """
        return self._reader.load()

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
        self._state.access_marks.forget_keys(keys)

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

        Keys that have ended are removed.

        Args:
            grants: Its roles.
            account: To which it belongs, beyond whose roles it does not go; empty: to nobody.
            days: After which it ends; None: it does not.
            note: What it is for.
            by: Who makes it.

        Raises:
            Invalid: A value does not fit, or the account has as many keys as it may.
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
            keys = self.load().keys.values()
            ended = [found.id for found in keys if found.has_ended(now)]
            count = sum(found.account == account and not found.has_ended(now) for found in keys)
            if account and count >= MOST_KEYS:
                raise Invalid(
                    f"the account {account!r} has {count:,} API keys, at most {MOST_KEYS:,}: revoke some first"
                )
            self._store.delete(map(access_layout.api_key_key, ended))
            self._put(access_layout.api_key_key(key.id), KEY, key.to_json())
        self._state.access_marks.forget_keys(ended)
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
        self._state.access_marks.forget_keys([key])

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
                    moved_account = replace(account, grants=moved)  # its sessions go on: what they may do is read anew
                    self._put(access_layout.account_key(account.name), ACCOUNT, moved_account.to_json())
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
            Invalid: It is to last for no time, or too long, or the collection has as many links as it may.
        """
        if not 0 < days <= MOST_DAYS:
            raise Invalid(f"a link cannot last for {days:g} days: use 1 to {MOST_DAYS}")
        now = time.time()
        link = ShareLink(secrets.token_hex(12), collection, images, query, account, now, now + days * 86_400, key)
        with self._changing():
            state = self.load()
            ended = [found.id for found in state.links.values() if found.expires <= now]
            count = sum(found.collection == collection and state.holds(found) for found in state.links.values())
            if count >= MOST_LINKS:
                most = f"{count:,} share links, at most {MOST_LINKS:,}"
                raise Invalid(f"the collection {collection!r} has {most}: revoke some first")
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
