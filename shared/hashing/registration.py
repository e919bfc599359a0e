"""The registration of a hash family: its name, its parameters, and how it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from shared.hashing.parameters import FamilyParameters, ParameterName
from shared.hashing.space import Space
from shared.hashing.types import HashFamily

Restore = Callable[[dict[str, Any], dict[str, npt.NDArray[Any]]], HashFamily]
"""Restores a family from its parameters and arrays, as `HashFamily.parameters` and `HashFamily.arrays` give them."""


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
        name: The name in stored parameters, in grids and on the command line.
        parameters: The names of the family's parameters.
        restore: Restores a stored family.
        draw_in_plain_space: Draws a family from given parameters, on vectors as the model gives them; None: the family
            needs the tuner.
    """

    name: str
    parameters: tuple[ParameterName, ...]
    restore: Restore
    draw_in_plain_space: DrawInPlainSpace | None = None
