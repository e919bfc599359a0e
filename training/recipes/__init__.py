"""Recipes: how a network is fine-tuned, as data. A recipe is one JSON file of this folder, or of the user's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args

from shared.errors import Invalid, NotFound
from training.network import ACTIVATIONS
from training.pooling import POOLINGS

Unfrozen = Literal["none", "last stage", "all"]
"""What of the backbone learns: nothing, its last stage (see `Backbone.last_stage`), or all of it."""


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned for the classes of its images.

    Attributes:
        name: The file's, without its ending.
        about: A sentence on what it is.
        backbone: The backbone that it was made for; any other will do.
        pooling: From the last feature map to the features, by its name in `training.pooling`.
        unfrozen: What of the backbone learns.
        head: Layers between features and classes, as data: {"dense": units, "activation": name} or {"dropout": rate}.
        learning_rate: Of Adam.
        augmented: Whether pictures are varied anew in every epoch.
        batch: Images of a step.
        epochs: At most.
        patience: After so many epochs in which the validation loss did not fall it ends, and takes the best weights.
    """

    name: str
    about: str
    backbone: str
    pooling: str
    unfrozen: Unfrozen
    head: tuple[Mapping[str, Any], ...]
    learning_rate: float
    augmented: bool
    batch: int
    epochs: int
    patience: int

    @classmethod
    def from_json(cls, name: str, value: object) -> Self:
        """Return the recipe that a file describes.

        Raises:
            Invalid: Something is missing, unknown or out of its range; the message names it.
        """
        if not isinstance(value, dict):
            raise Invalid(f"recipe {name!r} is not a JSON object")
        wanted = {field.name for field in fields(cls)} - {"name"}
        wrong = [f"{one!r} is missing" for one in sorted(wanted - value.keys())]
        wrong += [f"{one!r} is unknown" for one in sorted(value.keys() - wanted)]
        if wrong:
            raise Invalid(f"recipe {name!r}: {', '.join(wrong)}")
        for field, fits, expected in (
            ("about", isinstance(value["about"], str), "a sentence"),
            ("backbone", isinstance(value["backbone"], str), "the name of a backbone"),
            ("pooling", value["pooling"] in POOLINGS, f"one of {', '.join(POOLINGS)}"),
            ("unfrozen", value["unfrozen"] in get_args(Unfrozen), f"one of {', '.join(get_args(Unfrozen))}"),
            ("head", _is_head(value["head"]), 'a list of {"dense": units, "activation": name} and {"dropout": rate}'),
            (
                "learning_rate",
                _is_number(value["learning_rate"]) and 0 < value["learning_rate"] < 1,
                "a number in (0, 1)",
            ),
            ("augmented", isinstance(value["augmented"], bool), "true or false"),
            *((one, _is_count(value[one]), "a whole number from 1 on") for one in ("batch", "epochs", "patience")),
        ):
            if not fits:
                raise Invalid(f"recipe {name!r}: {field} is {value[field]!r}, expected {expected}")
        return cls(name=name, **{**value, "head": tuple(value["head"])})

    def to_json(self) -> dict[str, Any]:
        """Return what the recipe's file says."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"} | {
            "head": [dict(layer) for layer in self.head]
        }


def names() -> list[str]:
    """Return the names of the recipes that come with Artseek, sorted."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def recipe_named(name: str) -> Recipe:
    """Return a recipe of ours by its name, or a user's by the path of its file.

    Raises:
        NotFound: There is none; the message lists those there are.
        Invalid: The file is no recipe.
    """
    if name in names():
        text = (resources.files(__name__) / f"{name}.json").read_text("utf-8")
        return Recipe.from_json(name, json.loads(text))
    path = Path(name)
    if path.suffix != ".json":
        raise NotFound(
            f"no recipe is named {name!r}; there are: {', '.join(names())}, or give the path of a .json file"
        )
    try:
        return Recipe.from_json(path.stem, json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise NotFound(f"the recipe {name!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"the recipe {name!r} is not JSON: {error}") from error


def _is_head(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(layer, dict) and _is_layer(layer) for layer in value)


def _is_layer(layer: dict[str, Any]) -> bool:
    if layer.keys() == {"dropout"}:
        return _is_number(layer["dropout"]) and 0 <= layer["dropout"] < 1
    return layer.keys() == {"dense", "activation"} and _is_count(layer["dense"]) and layer["activation"] in ACTIVATIONS


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
