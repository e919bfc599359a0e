"""Groups of people as others know them, and their roles here: ``curators=curator; map room=viewer:maps``."""

from collections.abc import Mapping
from typing import Final

_ROLES: Final = ("viewer", "curator", "admin")


def parse_group_roles(text: str) -> Mapping[str, tuple[tuple[str, str | None], ...]]:
    """Return the roles of each group, with the collection of each; None: in all collections.

    Raises:
        ValueError: It is not written so; the message says what is expected.
    """
    found: dict[str, tuple[tuple[str, str | None], ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        group, equals, right = entry.rpartition("=")  # names of groups may have `=` and `,` in them
        role, _, collection = right.strip().partition(":")
        if not equals or not group.strip() or role not in _ROLES:
            raise ValueError(
                f"{entry[:80]!r} gives no group a role: write GROUP=ROLE or GROUP=ROLE:COLLECTION with "
                f"{', '.join(_ROLES)} as roles, and `;` between them"
            )
        found[group.strip()] = (*found.get(group.strip(), ()), (role, collection.strip() or None))
    return found
