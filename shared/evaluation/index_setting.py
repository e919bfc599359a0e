"""The setting of an index: what a grid asks an evaluation to build and judge beside the index in use."""

from dataclasses import dataclass
from typing import Literal, Required

from shared.hashing.parameters import FamilyParameters, ParametersJson

SpaceName = Literal["principal", "plain"]
"""Where vectors are hashed: on the collection's principal axes, or as the model gives them."""


class IndexSettingJson(ParametersJson, total=False):
    """A setting of a grid as JSON: a hash family and the parameters given. The tuner chooses those left out."""

    family: Required[str]
    space: Required[SpaceName]


@dataclass(frozen=True, kw_only=True)
class IndexSetting(FamilyParameters):
    """A hash family, where it hashes, and the parameters that are given; `shared.evaluation.grids` checks them.

    Attributes:
        family: Name of the hash family.
        space: Where vectors are hashed.
    """

    family: str
    space: SpaceName = "principal"

    def to_json(self) -> IndexSettingJson:
        """Return the setting as JSON values, without the parameters left to the tuner."""
        return {"family": self.family, "space": self.space, **self.given()}

    @classmethod
    def from_json(cls, value: IndexSettingJson) -> "IndexSetting":
        """Return the setting that `to_json` gave."""
        return cls(**value)
