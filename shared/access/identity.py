"""Who somebody is by the word of others: an OpenID provider, or a proxy that has asked for a password already."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.access.roles import Grant, grants_of
from shared.group_roles import parse_group_roles

_UNFIT: Final = re.compile(r"[^a-z0-9._@+-]+")
_LONGEST: Final = 128


@dataclass(frozen=True)
class Identity:
    """Somebody whom others have let in.

    Attributes:
        subject: Who that is for them, never anybody else.
        name: What the account is called if it is made now.
        grants: The roles; None: those that the account has here.
        told_by: Who says all this.
    """

    subject: str
    name: str
    grants: tuple[Grant, ...] | None
    told_by: str


def name_of(*names: object) -> str:
    """Return the first of some names that is one, with what the name of an account cannot have replaced."""
    for name in names:
        fit = _UNFIT.sub("-", str(name or "").strip().lower()).lstrip("._@+-")[:_LONGEST]
        if fit:
            return fit
    return "unnamed"


def grants_of_groups(group_roles: str, groups: Iterable[str]) -> tuple[Grant, ...] | None:
    """Return the roles of somebody's groups, as the setting `group_roles` has them; None: it has none for anybody."""
    if not group_roles.strip():
        return None
    roles = parse_group_roles(group_roles)
    found = {
        grant
        for group in groups
        for role, collection in roles.get(group, ())
        for grant in grants_of(role, () if collection is None else (collection,))
    }
    return tuple(sorted(found, key=lambda grant: (grant.role, grant.collection or "")))
