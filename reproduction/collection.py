"""The images of the report: a gallery and queries with the same classes, and distractors; and their cleaning."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.folders import walk
from training.labelled import Labelled, Picture, Refused, apart, check_classes, look_at, read_background, read_labelled

Progress = Callable[[str], Callable[[int, int], None]]
"""From what is done to what is told of it."""


@dataclass(frozen=True)
class Images:
    """What a folder holds, after cleaning.

    Attributes:
        training: The folder of the gallery, as `artseek train` takes it.
        validation: That of the queries.
        gallery: Labelled images that are searched.
        queries: Labelled images that are searched for; none is among the gallery.
        distractors: Images of no class that are searched too.
        refused: Files that are no images.
        copies: Files left out since they are byte-identical to another of their class.
        leaked: Images of the gallery, by class, left out since they are queries too, byte for byte.
    """

    training: Path
    validation: Path
    gallery: Labelled
    queries: Labelled
    distractors: tuple[Picture, ...]
    refused: tuple[Refused, ...]
    copies: int
    leaked: dict[str, int]

    @property
    def pictures(self) -> list[Picture]:
        """All images: gallery, distractors, queries."""
        return [*self.gallery.pictures, *self.distractors, *self.queries.pictures]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The classes of gallery and distractors, -1 for these."""
        return np.concatenate([self.gallery.labels, np.full(len(self.distractors), -1, dtype=np.int64)])


def read_images(folder: Path, progress: Progress) -> Images:
    """Look through a folder that has `train`, `validation` and perhaps `distractor`, each looked for in `art` too.

    A folder `corrupted` beside them, of files that are known to be no images, is looked through as well.

    Raises:
        Invalid: Gallery or queries are missing, or their classes differ; the message says what is expected.
    """
    training, validation = (_found(folder, name) for name in ("train", "validation"))
    if training is None or validation is None:
        missing = "train" if training is None else "validation"
        raise Invalid(
            f"{str(folder)!r} has no folder {missing!r}: expected train/CLASS/… (the images to be searched), "
            "validation/CLASS/… (those to be searched for) and, if there are any, distractor/… (images of no class), "
            "in it or in its folder 'art'"
        )
    gallery = read_labelled(training, progress("looking at the gallery"))
    queries = read_labelled(validation, progress("looking at the queries"))
    check_classes(queries, gallery)
    kept, _ = apart(gallery, queries)
    refused = [*gallery.refused, *queries.refused]
    distractors: list[Picture] = []
    if beside := _found(folder, "distractor"):
        distractors, bad = read_background(beside, (gallery, queries), progress("looking at the distractors"))
        refused += bad
    if corrupted := _found(folder, "corrupted"):
        files = [(source.path, 0) for source in walk([corrupted], labels_from_folders=False)]
        refused += look_at(files, len(files), progress("looking at corrupted files"))[1]
    return Images(
        training,
        validation,
        kept,
        queries,
        tuple(distractors),
        tuple(refused),
        gallery.copies + queries.copies,
        {name: size - kept.sizes[name] for name, size in gallery.sizes.items()},
    )


def leak(images: Images, label: str, share: float) -> npt.NDArray[Any]:
    """Return the places of queries that are to be copied into the gallery: of a class so many, chosen by content."""
    place = images.queries.classes.index(label)
    own = [number for number, one in enumerate(images.queries.pictures) if one.label == place]
    own.sort(key=lambda number: images.queries.pictures[number].sha256)
    return np.array(own[: round(share * len(own))], dtype=np.int64)


def _found(folder: Path, name: str) -> Path | None:
    for place in (folder / name, folder / "art" / name):
        if place.is_dir():
            return place
    return None
