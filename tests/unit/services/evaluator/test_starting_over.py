"""An evaluation starts over if an image is deleted that it is about to search for."""

from dataclasses import dataclass, field

import pytest

from services.evaluator.checkpoints import CollectionState
from services.evaluator.starting_over import STARTS, until_unchanged
from shared.errors import NotFound


@dataclass
class Changing:
    """A collection from which somebody deletes an image at each of the first evaluations."""

    deletions: int
    images: int = 20
    starts: int = field(default=0, init=False)

    def state(self) -> CollectionState:
        return CollectionState(self.images, self.images, "m", 1, 0, 0.0)

    def evaluate(self) -> None:
        self.starts += 1
        if self.starts <= self.deletions:
            self.images -= 1
            raise NotFound("the collection has no image 7")


def test_an_evaluation_starts_over_while_images_are_deleted() -> None:
    collection = Changing(deletions=2)
    until_unchanged(collection.evaluate, collection.state)
    assert collection.starts == 3


def test_an_evaluation_does_not_start_over_for_ever() -> None:
    collection = Changing(deletions=100)
    with pytest.raises(NotFound, match="no image 7"):
        until_unchanged(collection.evaluate, collection.state)
    assert collection.starts == STARTS


def test_what_an_unchanged_collection_never_had_ends_the_evaluation() -> None:
    collection = Changing(deletions=0)

    def evaluate() -> None:
        collection.starts += 1
        raise NotFound("there is no query set of that name")

    with pytest.raises(NotFound, match="query set"):
        until_unchanged(evaluate, collection.state)
    assert collection.starts == 1
