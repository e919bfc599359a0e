"""Roles, what they allow, and who asks: the words in which access is spoken of."""

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from shared.errors import Invalid
from shared.storage.layout import collection_name

Role = Literal["viewer", "curator", "admin"]
Action = Literal["look", "originals", "inspect", "change", "administer"]
Kind = Literal["anonymous", "account", "key", "owner"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""All roles, each with the rights of those before it."""

_RANKS: Final = {role: rank for rank, role in enumerate(ROLES, 1)}
_NEEDED: Final[dict[Action, Role]] = {
    "look": "viewer",
    "originals": "viewer",
    "inspect": "viewer",
    "change": "curator",
    "administer": "admin",
}


def needed_role(action: Action) -> Role:
    """Return the least role that an action takes, where the collection is open to nobody else."""
    return _NEEDED[action]


@dataclass(frozen=True, order=True)
class Grant:
    """A role in a collection, or in all of them, those to come included, where `collection` is None."""

    role: Role
    collection: str | None = None

    def __str__(self) -> str:
        return self.role if self.collection is None else f"{self.role} of {self.collection}"


def grants_of(role: str, collections: tuple[str, ...]) -> tuple[Grant, ...]:
    """Return a role in each of some collections, in all where none is named.

    Raises:
        Invalid: There is no such role, or a collection cannot have such a name.
    """
    for known in ROLES:
        if role == known:
            names = sorted({collection_name(name) for name in collections})
            return tuple(Grant(known, name) for name in names) or (Grant(known),)
    raise Invalid(f"{role[:80]!r} is no role: use one of {', '.join(ROLES)}")


@dataclass(frozen=True)
class Requester:
    """Who asks for something.

    Attributes:
        kind: `owner` is whoever reaches a system that needs no log-in.
        name: The account's name, or the id of the key; empty for the others.
        grants: The roles.
        within: The roles of the account that a key belongs to, beyond which the key does not go; None: no bound.
        key_of: The name of the account that a key belongs to; empty for a key of nobody's, and for all others.
        links: Collections that share links have opened to look at.
    """

    kind: Kind
    name: str = ""
    grants: tuple[Grant, ...] = ()
    within: tuple[Grant, ...] | None = None
    key_of: str = ""
    links: frozenset[str] = field(default_factory=frozenset)

    def has_role(self, role: Role, collection: str | None) -> bool:
        """Return whether the requester has a role, or one above it, in a collection; None: in all collections."""
        rank = _rank(self.grants, collection)
        if self.within is not None:
            rank = min(rank, _rank(self.within, collection))
        return rank >= _RANKS[role]

    def collections_with(self, role: Role) -> frozenset[str] | None:
        """Return the collections in which the requester has a role, or one above it; None if in all."""
        if self.has_role(role, None):
            return None
        named = {grant.collection for grant in (*self.grants, *(self.within or ())) if grant.collection is not None}
        return frozenset(name for name in named if self.has_role(role, name))

    @property
    def account(self) -> str:
        """The name of the account that asks, by a session or by a key of its own; empty: none does."""
        return self.name if self.kind == "account" else self.key_of

    @property
    def is_signed_in(self) -> bool:
        """Whether the requester is somebody whom the system knows."""
        return self.kind != "anonymous"

    @property
    def is_let_into_shared(self) -> bool:
        """Whether the requester may look at what is shared with all accounts: a key only if it has no collections."""
        return self.kind in {"account", "owner"} or (
            self.kind == "key" and any(grant.collection is None for grant in self.grants)
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


ANONYMOUS: Final = Requester("anonymous")
OWNER: Final = Requester("owner", grants=(Grant("admin"),))


def _rank(grants: tuple[Grant, ...], collection: str | None) -> int:
    return max((_RANKS[grant.role] for grant in grants if grant.collection in {None, collection}), default=0)
