"""The last verification: what it found, and when."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.state.connection import Client, guarded
from shared.versioned import StoredKind

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY = "verification"
_KIND = StoredKind("last verification")


@dataclass(frozen=True)
class FoundDamage:
    """How many things of a collection have damage of a kind; no collection: what belongs to none."""

    kind: str
    collection: str | None
    count: int
    meaning: str


@dataclass(frozen=True)
class LastVerification:
    """What the last verification found, and when it ended, in seconds since 1970."""

    ended: float
    damage: tuple[FoundDamage, ...]

    def of(self, collection: str) -> list[FoundDamage]:
        """Return the damage of a collection."""
        return [damage for damage in self.damage if damage.collection == collection]


class Verifications:
    """Keeps the last verification of the whole system."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def set(self, damage: tuple[FoundDamage, ...], *, only: str | None = None) -> None:
        """Note damage that is not mended; a verification of `only` one collection leaves the rest as it was."""
        ended = time.time()
        if only is not None:
            last = self.get()
            if last is None:
                return
            ended, damage = last.ended, (*(found for found in last.damage if found.collection != only), *damage)
        value: Mapping[str, Any] = {"ended": ended, "damage": [vars(found) for found in damage]}
        with guarded():
            self._redis.set(_KEY, _KIND.dumps(value))

    def get(self) -> LastVerification | None:
        """Return the last verification; None if there was none."""
        with guarded():
            kept = self._redis.get(_KEY)
        return None if kept is None else _KIND.loads(kept, _last_of, place=_KEY)


def _last_of(values: dict[str, Any]) -> LastVerification:
    return LastVerification(values["ended"], tuple(FoundDamage(**found) for found in values["damage"]))
