"""The images of the report: a gallery and queries with the same classes, and distractors; and their cleaning."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.folders import walk
from training.labelled_images import (
    ImageFile,
    LabelledImages,
    RefusedFile,
    check_images,
    check_same_classes,
    read_background,
    read_labelled,
    without_copies_of,
)
from training.progress import ProgressBars


@dataclass(frozen=True)
class ReportImages:
    """The images of a folder, after cleaning.

    Attributes:
        training_folder: That of the gallery, as `artseek train` takes it.
        validation_folder: That of the queries.
        gallery: Labelled images that are searched.
        queries: Labelled images that are searched for; none is in the gallery.
        distractors: Images of no class that are searched too.
        refused: Files that are no images.
        copies: How many files were left out because they are byte-identical to another of their class.
        leaked: How many images of the gallery, by class, were left out because they are queries too, byte for byte.
    """

    training_folder: Path
    validation_folder: Path
    gallery: LabelledImages
    queries: LabelledImages
    distractors: tuple[ImageFile, ...]
    refused: tuple[RefusedFile, ...]
    copies: int
    leaked: dict[str, int]

    @property
    def all_images(self) -> list[ImageFile]:
        """Gallery, distractors and queries, in this order."""
        return [*self.gallery.images, *self.distractors, *self.queries.images]

    @property
    def searched_labels(self) -> npt.NDArray[np.int64]:
        """The classes of gallery and distractors, -1 for distractors: int64 [n]."""
        return np.concatenate([self.gallery.labels, np.full(len(self.distractors), -1, dtype=np.int64)])


def read_images(folder: Path, bar: ProgressBars) -> ReportImages:
    """Read a folder that has `train`, `validation` and perhaps `distractor`, each in it or in its folder `art`.

    The files of a folder `corrupted` beside them, which are known to be no images, are tried as well.

    Raises:
        Invalid: Gallery or queries are missing, or their classes differ; the message says what is expected.
    """
    training, validation = (_subfolder(folder, name) for name in ("train", "validation"))
    if training is None or validation is None:
        missing = "train" if training is None else "validation"
        raise Invalid(
            f"{str(folder)!r} has no folder {missing!r}: expected train/CLASS/… (the images to be searched), "
            "validation/CLASS/… (those to be searched for) and, if there are any, distractor/… (images of no class), "
            "in it or in its folder 'art'"
        )
    gallery = read_labelled(training, bar("looking at the gallery"))
    queries = read_labelled(validation, bar("looking at the queries"))
    check_same_classes(queries, gallery)
    searched, _ = without_copies_of(gallery, queries)
    refused = [*gallery.refused, *queries.refused]
    distractors: list[ImageFile] = []
    if distractor_folder := _subfolder(folder, "distractor"):
        distractors, no_images = read_background(
            distractor_folder, (gallery, queries), bar("looking at the distractors")
        )
        refused += no_images
    if corrupted_folder := _subfolder(folder, "corrupted"):
        files = [(source.path, 0) for source in walk([corrupted_folder], labels_from_folders=False)]
        refused += check_images(files, len(files), bar("looking at corrupted files"))[1]
    return ReportImages(
        training_folder=training,
        validation_folder=validation,
        gallery=searched,
        queries=queries,
        distractors=tuple(distractors),
        refused=tuple(refused),
        copies=gallery.copies + queries.copies,
        leaked={name: size - searched.sizes[name] for name, size in gallery.sizes.items()},
    )


def queries_to_leak(images: ReportImages, label: str, share: float) -> npt.NDArray[np.int64]:
    """Return the places of queries to be copied into the gallery: a share of a class, chosen by content."""
    class_place = images.queries.classes.index(label)
    places = [place for place, image in enumerate(images.queries.images) if image.label == class_place]
    places.sort(key=lambda place: images.queries.images[place].sha256)
    return np.array(places[: round(share * len(places))], dtype=np.int64)


def _subfolder(folder: Path, name: str) -> Path | None:
    """Return the folder of this name, in a folder or in its folder `art`."""
    for candidate in (folder / name, folder / "art" / name):
        if candidate.is_dir():
            return candidate
    return None
