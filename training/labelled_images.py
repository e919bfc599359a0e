"""Labelled folders: the images of each class, each decoded once before anything is trained on them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.folders import walk
from shared.images import ImageRefused, decode

OnProgress = Callable[[int, int], None]
"""Is called now and then with how many files were read, and how many there are."""

_CHECKED_SIZE = 32  # pixels that an image is decoded to, only to see whether it can be
_THREADS = 4
_LISTED_FILES = 5  # that an error names


@dataclass(frozen=True)
class ImageFile:
    """A file that can be decoded.

    Attributes:
        path: Where it is.
        label: The place of its class among the classes; 0 if there are none.
        sha256: Of its bytes.
    """

    path: Path
    label: int
    sha256: str


@dataclass(frozen=True)
class RefusedFile:
    """A file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class LabelledImages:
    """Images with a class each, in the order of their paths.

    Attributes:
        classes: Names of the classes, sorted.
        images: Every image once: copies within a class are left out.
        refused: Files that are no images.
        copies: How many files were left out because they are byte-identical to another of their class.
    """

    classes: tuple[str, ...]
    images: tuple[ImageFile, ...]
    refused: tuple[RefusedFile, ...] = ()
    copies: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The classes of the images by their places, int64 [n]."""
        return np.array([image.label for image in self.images], dtype=np.int64)

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each class has."""
        counts = Counter(image.label for image in self.images)
        return {name: counts[place] for place, name in enumerate(self.classes)}

    @property
    def digest(self) -> str:
        """SHA-256 of classes and contents; the names of the files do not matter."""
        return digest_of(self.images, self.classes)


@dataclass(frozen=True)
class TrainingData:
    """What a network is trained with.

    Attributes:
        training: Images to learn from.
        validation: Images to judge by, of the same classes.
        background: Images of no class to learn from.
        held_back: Images of no class to judge by.
    """

    training: LabelledImages
    validation: LabelledImages
    background: Sequence[ImageFile] = ()
    held_back: Sequence[ImageFile] = ()


def digest_of(images: Iterable[ImageFile], classes: Sequence[str] = ("",)) -> str:
    """Return a SHA-256 of the classes and contents of images; their names and their order do not matter."""
    lines = sorted(f"{classes[image.label]}\0{image.sha256}\n" for image in images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_labelled(folder: Path, on_progress: OnProgress | None = None) -> LabelledImages:
    """Return the images of a folder that has a folder for each class. Every file is decoded once.

    Args:
        folder: Its subfolders are the classes; a file's class is the first folder of its path within `folder`.
        on_progress: Told how many files were read.

    Raises:
        Invalid: There are fewer than two classes, or a class has fewer than two images; the message names the class
            and the remedy.
    """
    if not folder.is_dir():
        raise Invalid(f"there is no folder {str(folder)!r}; give one that has a folder of images for each class")
    sources = [source for source in walk([folder], labels_from_folders=True) if source.label is not None]
    classes = tuple(sorted({source.label for source in sources if source.label is not None}))
    if len(classes) < 2:
        found = f"only one class, {classes[0]!r}" if classes else "no class folders"
        raise Invalid(
            f"{str(folder)!r} has {found}: put the images of each class, two at least, into a folder of its own"
        )
    places = {name: place for place, name in enumerate(classes)}
    files = ((source.path, places[str(source.label)]) for source in sources)
    images, refused = check_images(files, len(sources), on_progress)
    distinct = tuple({(image.label, image.sha256): image for image in reversed(images)}.values())[::-1]
    labelled = LabelledImages(classes, distinct, tuple(refused), len(images) - len(distinct))
    small_classes = {name: size for name, size in labelled.sizes.items() if size < 2}
    if small_classes:
        counts = ", ".join(f"{name!r} has {size}" for name, size in small_classes.items())
        unreadable = f" ({_listed(refused)} cannot be read)" if refused else ""
        raise Invalid(f"a class needs two images that can be read, to learn from and to judge by: {counts}{unreadable}")
    return labelled


def without_copies_of(data: LabelledImages, other: LabelledImages) -> tuple[LabelledImages, int]:
    """Return `data` without the images that are byte-identical to one of `other`, and how many those were."""
    digests = {image.sha256 for image in other.images}
    kept = tuple(image for image in data.images if image.sha256 not in digests)
    return replace(data, images=kept), len(data) - len(kept)


def read_background(
    folder: Path, labelled: Iterable[LabelledImages], on_progress: OnProgress | None = None
) -> tuple[list[ImageFile], list[RefusedFile]]:
    """Return the images of a folder that have no class, each once and sorted by digest, and the files that are none.

    Args:
        folder: With images, in any folders.
        labelled: Images that are byte-identical to one of these are left out.
        on_progress: Told how many files were read.

    Raises:
        Invalid: There is no folder, or fewer than two images of no class in it.
    """
    if not folder.is_dir():
        raise Invalid(f"there is no folder {str(folder)!r}; give one with images of no class")
    sources = list(walk([folder], labels_from_folders=False))
    images, refused = check_images(((source.path, 0) for source in sources), len(sources), on_progress)
    labelled_digests = {image.sha256 for data in labelled for image in data.images}
    distinct = {image.sha256: image for image in reversed(images) if image.sha256 not in labelled_digests}
    if len(distinct) < 2:
        raise Invalid(f"{str(folder)!r} has {len(distinct)} images that are in no class, expected two at least")
    return sorted(distinct.values(), key=lambda image: image.sha256), refused


def check_same_classes(validation: LabelledImages, training: LabelledImages) -> None:
    """Check that both have the same classes, and so number them alike.

    Raises:
        Invalid: A class is in only one of them.
    """
    missing = sorted(set(training.classes) - set(validation.classes))
    unknown = sorted(set(validation.classes) - set(training.classes))
    if missing or unknown:
        parts = [f"{', '.join(map(repr, missing))} missing from the validation images"] if missing else []
        parts += [f"{', '.join(map(repr, unknown))} missing from the training images"] if unknown else []
        raise Invalid(f"the classes differ: {'; '.join(parts)}; a class needs images in both")


def split(data: LabelledImages, share: float) -> tuple[LabelledImages, LabelledImages]:
    """Return data for training and for validation: of each class about `share`, but one at least, for validation.

    Contents decide which images those are, so that they are the same every time and on every machine.
    """
    held_back: set[int] = set()
    labels = data.labels
    for label in range(len(data.classes)):
        places = np.flatnonzero(labels == label).tolist()
        places.sort(key=lambda place: data.images[place].sha256)
        held_back.update(places[: max(1, round(share * len(places)))])
    training, validation = (
        tuple(image for place, image in enumerate(data.images) if (place in held_back) is chosen)
        for chosen in (False, True)
    )
    return replace(data, images=training), replace(data, images=validation)


def check_images(
    files: Iterable[tuple[Path, int]], count: int, on_progress: OnProgress | None
) -> tuple[list[ImageFile], list[RefusedFile]]:
    """Decode `count` files, each given with the place of its class; returns the images, and the files that are none."""
    images: list[ImageFile] = []
    refused: list[RefusedFile] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        for number, checked in enumerate(pool.map(_check, *zip(*files, strict=True)), 1):
            if isinstance(checked, ImageFile):
                images.append(checked)
            else:
                refused.append(checked)
            if on_progress is not None:
                on_progress(number, count)
    return images, refused


def _check(path: Path, label: int) -> ImageFile | RefusedFile:
    try:
        data = path.read_bytes()
        decode(data, size=_CHECKED_SIZE)
    except ImageRefused as error:
        return RefusedFile(path, error.message)
    except OSError as error:
        return RefusedFile(path, f"it cannot be read: {error.strerror or error}")
    return ImageFile(path, label, hashlib.sha256(data).hexdigest())


def _listed(refused: Sequence[RefusedFile]) -> str:
    names = ", ".join(repr(str(file.path)) for file in refused[:_LISTED_FILES])
    return f"{names} and {len(refused) - _LISTED_FILES} more" if len(refused) > _LISTED_FILES else names
