"""Accounts, API keys and the access of collections, as the object store keeps them."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from shared.access.links import ShareLink
from shared.access.roles import OWNER, ROLES, Action, Grant, Requester, needed_role
from shared.errors import Invalid
from shared.versioned import StoredKind

Visibility = Literal["private", "shared", "public"]
VISIBILITIES: Final[tuple[Visibility, ...]] = get_args(Visibility)

VISIBILITY_TITLES: Final[dict[Visibility, str]] = {
    "private": "only those with a role in it",
    "shared": "everybody who is logged in",
    "public": "everybody",
}

ACCOUNT, KEY, COLLECTION = StoredKind("account"), StoredKind("API key"), StoredKind("access of a collection")
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")


def account_name(name: str) -> str:
    """Return the name of an account, in lower case.

    Raises:
        Invalid: It cannot be one.
    """
    lower = name.strip().lower()
    if not _NAME.fullmatch(lower):
        raise Invalid(
            f"{name[:80]!r} cannot name an account: use 1 to 128 of a-z, 0-9 and '._@+-', starting with a letter or "
            "digit"
        )
    return lower


@dataclass(frozen=True)
class Account:
    """A person's account.

    Attributes:
        name: The name, in lower case.
        password: The hash of the password; None for an account that cannot log in by one.
        grants: The roles.
        disabled: Whether the account may do nothing at all.
        stamp: Changes where the password does, or somebody gives other roles; a session of another stamp has ended.
        created: When it was made, in seconds since 1970.
        by: Who made it.
        subject: Who it is for an OpenID provider or proxy that lets people in; empty: the account is of here alone.
    """

    name: str
    password: str | None
    grants: tuple[Grant, ...]
    disabled: bool
    stamp: str
    created: float
    by: str
    subject: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the values to be stored."""
        return {**vars(self), "grants": grants_to_json(self.grants)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Account":
        """Return the account of stored values."""
        return cls(
            name=str(values["name"]),
            password=None if values["password"] is None else str(values["password"]),
            grants=grants_from_json(values["grants"]),
            disabled=bool(values["disabled"]),
            stamp=str(values["stamp"]),
            created=float(values["created"]),
            by=str(values["by"]),
            subject=str(values.get("subject", "")),
        )


@dataclass(frozen=True)
class ApiKey:
    """An API key, without its secret.

    Attributes:
        id: What it is named by.
        digest: SHA-256 of the secret, hexadecimal.
        grants: The roles.
        account: The account that it belongs to, beyond whose roles it does not go; empty for a key of the operator.
        note: What it is for.
        created: When it was made, in seconds since 1970.
        expires: When it ends; None: it does not.
        by: Who made it.
    """

    id: str
    digest: str
    grants: tuple[Grant, ...]
    account: str
    note: str
    created: float
    expires: float | None
    by: str

    def to_json(self) -> dict[str, Any]:
        """Return the values to be stored."""
        return {**vars(self), "grants": grants_to_json(self.grants)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ApiKey":
        """Return the key of stored values."""
        expires = values["expires"]
        return cls(
            id=str(values["id"]),
            digest=str(values["digest"]),
            grants=grants_from_json(values["grants"]),
            account=str(values["account"]),
            note=str(values["note"]),
            created=float(values["created"]),
            expires=None if expires is None else float(expires),
            by=str(values["by"]),
        )

    def has_ended(self, now: float) -> bool:
        """Return whether its time is over at a moment in seconds since 1970."""
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True)
class CollectionAccess:
    """Whom a collection is open to: to look at it and search it, and to download its originals."""

    visibility: Visibility = "private"
    originals: Visibility = "private"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CollectionAccess":
        """Return the access of stored values."""
        return cls(visibility(values["visibility"]), visibility(values["originals"]))


PRIVATE: Final = CollectionAccess()


@dataclass(frozen=True)
class AccessState:
    """Accounts by name, keys and links by id, and the access of collections by name; others are private."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    collections: Mapping[str, CollectionAccess] = field(default_factory=dict)
    links: Mapping[str, ShareLink] = field(default_factory=dict)

    def account(self, name: str) -> Account | None:
        """Return an account that may do something; None if there is none, or it is shut out."""
        account = self.accounts.get(name)
        return None if account is None or account.disabled else account

    def holder(self, key: ApiKey) -> Requester | None:
        """Return who holds a key; None if it has ended, or its account is gone or shut out."""
        if key.has_ended(time.time()):
            return None
        if not key.account:
            return Requester("key", key.id, key.grants)
        account = self.account(key.account)
        if account is None:
            return None
        return Requester("key", key.id, key.grants, within=account.grants, key_of=account.name)

    def holds(self, link: ShareLink) -> bool:
        """Return whether a link has time left, and whoever made it may still share its collection."""
        maker = self._maker(link)
        return link.expires > time.time() and maker is not None and maker.has_role("curator", link.collection)

    def _maker(self, link: ShareLink) -> Requester | None:
        """Return who made a link; None if their account or key is gone, or shut out."""
        if link.key:
            key = self.keys.get(link.key)
            return None if key is None else self.holder(key)
        if not link.account:
            return OWNER  # the command beside the servers
        account = self.account(link.account)
        return None if account is None else Requester("account", account.name, account.grants)

    def may(self, requester: Requester, action: Action, collection: str | None) -> bool:
        """Return whether somebody may do something in a collection; None: in all of them, and in the system."""
        if requester.has_role(needed_role(action), collection):
            return True
        if collection is None or action not in {"look", "originals"}:
            return False
        if action == "look" and collection in requester.links:
            return True
        access = self.collections.get(collection, PRIVATE)
        asked = [access.visibility] if action == "look" else [access.visibility, access.originals]
        return all(self._is_open(how, requester) for how in asked)

    @staticmethod
    def _is_open(how: Visibility, requester: Requester) -> bool:
        return how == "public" or (how == "shared" and requester.is_let_into_shared)

    def may_somewhere(self, requester: Requester, action: Action) -> bool:
        """Return whether somebody may do something in any collection at all."""
        named = {grant.collection for grant in requester.grants} | requester.links | set(self.collections) | {None}
        return any(self.may(requester, action, collection) for collection in named)


def visibility(word: object) -> Visibility:
    """Return a word if it is a visibility.

    Raises:
        Invalid: It is none.
    """
    for known in VISIBILITIES:
        if word == known:
            return known
    raise Invalid(f"{str(word)[:80]!r} is no visibility: use one of {', '.join(VISIBILITIES)}")


def grants_to_json(grants: Sequence[Grant]) -> list[dict[str, str | None]]:
    """Return roles as they are stored."""
    return [{"role": grant.role, "collection": grant.collection} for grant in grants]


def grants_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Grant, ...]:
    """Return the roles of stored values.

    Raises:
        Invalid: One is unknown.
    """
    grants = []
    for value in values:
        role, collection = value["role"], value["collection"]
        known = next((known for known in ROLES if known == role), None)
        if known is None:
            raise Invalid(f"{role!r} is no role")
        grants.append(Grant(known, None if collection is None else str(collection)))
    return tuple(grants)
