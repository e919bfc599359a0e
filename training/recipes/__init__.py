"""Recipes: how a network is fine-tuned, as data. A recipe is a JSON file in this folder, or a file of the user's.

The `objective` of a recipe says what is learned: "classes", to tell the classes apart, or "similarity", an embedding in
which the images of a class are near each other and all that the pretrained network knew is kept.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from shared.errors import Invalid, NotFound
from training.architecture import width_after
from training.backbones import SMALLEST
from training.pooling import POOLINGS

DEFAULT = "search"
"""The recipe that is used unless another is named."""

Unfrozen = Literal["none", "last stage", "all"]
"""The part of the backbone that learns: none, its last stage (see `Backbone.last_stage`), or all of it."""

_ANY_WIDTH = 1 << 16  # features before the head: its layers are checked before the backbone is known

Check = tuple[Callable[[Any], bool], str]
"""A function that says whether a value fits, and a description of values that do."""


@dataclass(frozen=True, kw_only=True)
class _Recipe(ABC):
    """What recipes of all objectives have.

    Attributes:
        name: That of the file, without its ending.
        about: A sentence that describes the recipe.
        backbone: The backbone that the recipe was made for; any other will do.
        pooling: From the feature maps to the features, by its name in `training.pooling`.
        head: Layers behind the features, as `training.architecture.Architecture` has them.
        learning_rate: The optimizer's highest.
        batch: Images of a step.
        epochs: At most.
    """

    name: str
    about: str
    backbone: str
    pooling: str
    head: tuple[Mapping[str, Any], ...]
    learning_rate: float
    batch: int
    epochs: int

    objective: ClassVar[str]
    order: ClassVar[str]
    checks: ClassVar[Mapping[str, Check]] = {}

    @classmethod
    def from_json(cls, name: str, value: Mapping[str, Any]) -> Self:
        """Return the recipe that a file describes.

        Raises:
            Invalid: Something is missing, unknown or out of its range; the message names it.
        """
        given = {key: item for key, item in value.items() if key != "objective"}
        expected_keys = {field.name for field in fields(cls)} - {"name"}
        wrong = [f"{key!r} is missing" for key in sorted(expected_keys - given.keys())]
        wrong += [f"{key!r} is unknown" for key in sorted(given.keys() - expected_keys)]
        if wrong:
            raise Invalid(f"recipe {name!r}: {', '.join(wrong)}")
        for field, (fits, expected) in {**_CHECKS, **cls.checks}.items():
            if not fits(given[field]):
                raise Invalid(f"recipe {name!r}: {field} is {given[field]!r}, expected {expected}")
        try:
            width_after(given["head"], _ANY_WIDTH)
        except Invalid as error:
            raise Invalid(f"recipe {name!r}: {error}") from error
        if not cls.in_order(given["head"]):
            raise Invalid(f"recipe {name!r}: head is {given['head']!r}, expected {cls.order}")
        return cls(name=name, **{**given, "head": tuple(given["head"])})

    @classmethod
    @abstractmethod
    def in_order(cls, head: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether layers, each of which fits, make a head in this order; `order` describes such orders."""

    def to_json(self) -> dict[str, Any]:
        """Return what the recipe's file says."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return {"objective": self.objective, **values, "head": [dict(layer) for layer in self.head]}


@dataclass(frozen=True, kw_only=True)
class ClassRecipe(_Recipe):
    """How a network is fine-tuned for the classes of its images, by Adam; the embedding is its pooled features.

    Attributes:
        unfrozen: The part of the backbone that learns.
        augmented: Whether images are augmented, anew in every epoch.
        patience: After so many epochs without a lower validation loss the training ends, with the best weights.
    """

    unfrozen: Unfrozen
    augmented: bool
    patience: int

    objective: ClassVar[str] = "classes"
    order: ClassVar[str] = 'layers of "dense" and "dropout" alone'

    @classmethod
    def in_order(cls, head: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether layers, each of which fits, make a head in this order."""
        return all("dense" in layer or "dropout" in layer for layer in head)


@dataclass(frozen=True, kw_only=True)
class SearchRecipe(_Recipe):
    """How an embedding for search is learned on a frozen backbone, by AdamW; the head ends in the embedding.

    {"heads": number, "of": layers} are learned side by side, each as if it were alone. {"project": units} brings their
    embeddings to fewer dimensions afterwards.

    Attributes:
        size: Side of the images in pixels.
        views: Augmented copies of each training image that are learned from beside the image as it is.
        temperature: Of the supervised contrastive loss.
        contrast: The weight of that loss.
        keep: The weight of the loss that ties the similarity of two images to that of their frozen features.
        weight_decay: Of AdamW.
    """

    size: int
    views: int
    temperature: float
    contrast: float
    keep: float
    weight_decay: float

    objective: ClassVar[str] = "similarity"
    order: ClassVar[str] = (
        '{"standardise": true}, then layers of "dense", "dropout" and "sum", of which the last may be "heads" of such '
        'layers, and perhaps {"project": units} at the end'
    )

    @classmethod
    def in_order(cls, head: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether layers, each of which fits, make a head in this order."""
        rest = list(head[1:-1] if head and "project" in head[-1] else head[1:])
        if not rest or "standardise" not in head[0]:
            return False
        return _can_learn([*rest[:-1], *(rest[-1]["of"] if "heads" in rest[-1] else rest[-1:])])

    @property
    def projected(self) -> int | None:
        """Dimensions that the projection at the end leaves; None without one."""
        return self.head[-1].get("project")

    @property
    def learned(self) -> int:
        """How many layers of the head stand before the projection."""
        return len(self.head) - (self.projected is not None)

    @property
    def heads(self) -> int:
        """How many embeddings are learned side by side."""
        return int(self.head[self.learned - 1].get("heads", 1))


Recipe = ClassRecipe | SearchRecipe


def names() -> list[str]:
    """Return the names of the recipes that come with Artseek, sorted."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def recipe_named(name: str) -> Recipe:
    """Return a recipe of ours by its name, or a user's by the path of its file.

    Raises:
        NotFound: There is no such recipe; the message lists those of ours.
        Invalid: The file is no recipe.
    """
    if name in names():
        return recipe_of(name, json.loads((resources.files(__name__) / f"{name}.json").read_text("utf-8")))
    path = Path(name)
    if path.suffix != ".json":
        raise NotFound(
            f"no recipe is named {name!r}; there are: {', '.join(names())}, or give the path of a .json file"
        )
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotFound(f"the recipe {name!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"the recipe {name!r} is not JSON: {error}") from error
    return recipe_of(path.stem, value)


def recipe_of(name: str, value: object) -> Recipe:
    """Return the recipe of this name that the JSON values describe, as `to_json` would give them.

    Raises:
        Invalid: They describe no recipe; the message names what is wrong.
    """
    if not isinstance(value, dict):
        raise Invalid(f"recipe {name!r} is not a JSON object")
    for kind in (ClassRecipe, SearchRecipe):
        if value.get("objective") == kind.objective:
            return kind.from_json(name, value)
    expected = f"{ClassRecipe.objective!r} or {SearchRecipe.objective!r}"
    raise Invalid(f"recipe {name!r}: objective is {value.get('objective')!r}, expected {expected}")


def _can_learn(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all layers, those of branches included, have weights to learn or are dropout."""
    return all(
        all(map(_can_learn, layer["sum"])) if "sum" in layer else "dense" in layer or "dropout" in layer
        for layer in layers
    )


def _is_head(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(layer, dict) for layer in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_COUNT: Check = (_is_count, "a whole number from 1 on")
_WEIGHT: Check = (lambda value: _is_number(value) and value >= 0, "a number from 0 on")
_CHECKS: Mapping[str, Check] = {
    "about": (lambda value: isinstance(value, str), "a sentence"),
    "backbone": (lambda value: isinstance(value, str), "the name of a backbone"),
    "pooling": (lambda value: value in POOLINGS, f"one of {', '.join(POOLINGS)}"),
    "head": (_is_head, "a list of layers"),
    "learning_rate": (lambda value: _is_number(value) and 0 < value < 1, "a number in (0, 1)"),
    "batch": _COUNT,
    "epochs": _COUNT,
}
ClassRecipe.checks = {
    "unfrozen": (lambda value: value in get_args(Unfrozen), f"one of {', '.join(get_args(Unfrozen))}"),
    "augmented": (lambda value: isinstance(value, bool), "true or false"),
    "patience": _COUNT,
}
SearchRecipe.checks = {
    "size": (lambda value: _is_count(value) and value >= SMALLEST, f"a whole number from {SMALLEST} on"),
    "views": (lambda value: value == 0 or _is_count(value), "a whole number from 0 on"),
    "temperature": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "contrast": _WEIGHT,
    "keep": _WEIGHT,
    "weight_decay": _WEIGHT,
}
