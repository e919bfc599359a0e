"""What a hash family says of itself when it is registered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from shared.hashing.parameters import FamilyParameters, ParameterName
from shared.hashing.space import Space
from shared.hashing.types import HashFamily

Restore = Callable[[dict[str, Any], dict[str, npt.NDArray[Any]]], HashFamily]
"""Makes a family again from its parameters and arrays, as `HashFamily.parameters` and `HashFamily.arrays` give them."""


class DrawInPlainSpace(Protocol):
    """Draws a family at random in a space that is not projected: nothing is left to a tuner."""

    def __call__(self, space: Space, parameters: FamilyParameters, *, seed: int) -> HashFamily:
        """Return the family.

        Raises:
            HashingError: A parameter is not given, or out of its range.
        """


@dataclass(frozen=True)
class FamilyRegistration:
    """A hash family that index generations, grids and the tuner may name.

    Attributes:
        name: The name it is stored under and asked for by.
        parameters: The names of its parameters.
        restore: Makes it from what was stored.
        draw_in_plain_space: Draws it from given parameters alone, on vectors as the model gives them; None: it cannot.
    """

    name: str
    parameters: tuple[ParameterName, ...]
    restore: Restore
    draw_in_plain_space: DrawInPlainSpace | None = None
