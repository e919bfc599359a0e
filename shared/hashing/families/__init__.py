"""The hash families there are, a module each.

A new family is a module here with a `REGISTRATION`, an entry of `REGISTRY`, and its trials in
`shared.tuning.families`. The stored form, the tuner, the command line's choices and the grids' settings follow.
"""

from shared.hashing.families import p_stable, voronoi
from shared.hashing.registration import FamilyRegistration

REGISTRY: dict[str, FamilyRegistration] = {
    registration.name: registration for registration in (voronoi.REGISTRATION, p_stable.REGISTRATION)
}
"""The registered families by name, in the order in which they are tried and shown."""

FAMILIES = tuple(REGISTRY)
"""Their names."""

__all__ = ["FAMILIES", "REGISTRY"]
