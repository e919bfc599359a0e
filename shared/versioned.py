"""Stored JSON: each value carries the number of its format, so that a reader refuses what a newer version wrote.

A value without a number is of format 1: version 0.1 wrote none.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.errors import Invalid, TooNew

FIELD = "format"

Made = TypeVar("Made")


@dataclass(frozen=True)
class StoredKind:
    """A kind of stored value.

    Attributes:
        name: What messages call it, such as "manifest".
        newest: The format that this version writes; it reads this one and all before.
    """

    name: str
    newest: int = 1

    def dumps(self, value: Mapping[str, Any], *, indent: int | None = None) -> bytes:
        """Return a value as JSON with the number of its format."""
        return json.dumps({FIELD: self.newest, **value}, indent=indent, ensure_ascii=False, allow_nan=False).encode()

    def loads(self, data: bytes | str, make: Callable[[Any], Made], *, place: str) -> Made:
        """Return what `make` makes of the values of stored JSON; `place` names the value in messages.

        Raises:
            TooNew: A newer version of Artseek wrote it.
            Invalid: It is no JSON, or not what this version or one before it writes.
        """
        try:
            values = json.loads(data)
            if isinstance(values, dict):
                self.check(values.pop(FIELD, 1), place=place)
            return make(values)
        except TooNew:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            described = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise Invalid(f"the {self.name} {place!r} cannot be read: {described}") from error

    def check(self, number: object, *, place: str) -> None:
        """Check the number of a format.

        Raises:
            TooNew: It is newer than what this version reads.
            Invalid: It is no such number.
        """
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise Invalid(f"the {self.name} {place!r} has the format {number!r}, expected a number from 1")
        if number > self.newest:
            raise TooNew(
                f"the {self.name} {place!r} has format {number}, which a newer version of Artseek wrote; this version "
                f"reads formats up to {self.newest}: upgrade Artseek"
            )
