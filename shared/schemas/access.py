"""Accounts and share links: who may log in, and what is shown to whoever has a link."""

from collections.abc import Iterable

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.access.accounts import Account
from shared.access.links import ShareLink
from shared.access.roles import Role
from shared.timestamps import rfc3339


class RoleAnswer(TypedDict):
    """A role in a collection; null: in all of them, those to come included."""

    role: Role
    collection: str | None


class AccountAnswer(TypedDict):
    """An account: what it may do, and who made it."""

    name: str
    roles: list[RoleAnswer]
    disabled: bool
    created: str
    by: str


class AccountsAnswer(TypedDict):
    """All accounts, by name."""

    users: list[AccountAnswer]


class ShareAnswer(TypedDict):
    """A share link: its address `url`, what it shows, who made it, and when it ends.

    `images` are the ids of the images that it shows, the best hit first; none: it shows the whole collection. `query`
    is the id of the image that they were found by; null: none, or one that is not in the collection.
    """

    id: str
    url: str
    collection: str
    images: list[int]
    query: int | None
    by: str
    created: str
    expires: str


class SharesAnswer(TypedDict):
    """The share links of a collection, the newest first."""

    shares: list[ShareAnswer]


def account_answer(account: Account) -> AccountAnswer:
    """Return the view of an account."""
    return AccountAnswer(
        name=account.name,
        roles=[RoleAnswer(role=grant.role, collection=grant.collection) for grant in account.grants],
        disabled=account.disabled,
        created=rfc3339(account.created),
        by=account.by,
    )


def accounts_answer(accounts: Iterable[Account]) -> AccountsAnswer:
    """Return the view of accounts."""
    return AccountsAnswer(
        users=[account_answer(account) for account in sorted(accounts, key=lambda account: account.name)]
    )


def share_answer(link: ShareLink, url: str) -> ShareAnswer:
    """Return the view of a share link whose address is `url`."""
    return ShareAnswer(
        id=link.id,
        url=url,
        collection=link.collection,
        images=list(link.images),
        query=link.query or None,
        by=link.by,
        created=rfc3339(link.created),
        expires=rfc3339(link.expires),
    )
