"""Labelled folders: the images of each class, looked through before anything is trained on them."""

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

_SIDE = 32  # pixels that an image is decoded to, only to see whether it can be
_THREADS = 4
_NAMED = 5  # files that an error names


@dataclass(frozen=True)
class Picture:
    """A file that can be decoded: the place of its class among the classes, and the SHA-256 of its bytes."""

    path: Path
    label: int
    sha256: str


@dataclass(frozen=True)
class Refused:
    """A file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Labelled:
    """Images with a class each, in the order of their paths.

    Attributes:
        classes: Names of the classes, sorted.
        pictures: Every image once: copies within a class are left out.
        refused: Files that are no images.
        copies: How many were left out since they are byte-identical to another.
    """

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    refused: tuple[Refused, ...] = ()
    copies: int = 0

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The classes of the images by their places, int64 [n]."""
        return np.array([picture.label for picture in self.pictures], dtype=np.int64)

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each class has."""
        counts = Counter(picture.label for picture in self.pictures)
        return {name: counts[place] for place, name in enumerate(self.classes)}

    @property
    def digest(self) -> str:
        """SHA-256 of classes and contents, whatever the files are called."""
        return digest_of(self.pictures, self.classes)


def digest_of(pictures: Iterable[Picture], classes: Sequence[str] = ("",)) -> str:
    """Return a SHA-256 of the classes and contents of pictures, whatever they are called and in which order."""
    lines = sorted(f"{classes[one.label]}\0{one.sha256}\n" for one in pictures)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_labelled(folder: Path, seen: Callable[[int, int], None] | None = None) -> Labelled:
    """Return the images of a folder that has a folder for each class; every file is decoded once to see that it can be.

    Args:
        folder: Its subfolders are the classes; a file's class is the first folder on its way.
        seen: Is told now and then how many files were looked at, and how many there are.

    Raises:
        Invalid: There are not two classes, or a class has no two images; the message names the class and the remedy.
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
    place = {name: number for number, name in enumerate(classes)}
    pictures, refused = look_at(((one.path, place[str(one.label)]) for one in sources), len(sources), seen)
    kept = tuple({(one.label, one.sha256): one for one in reversed(pictures)}.values())[::-1]
    made = Labelled(classes, kept, tuple(refused), len(pictures) - len(kept))
    few = {name: size for name, size in made.sizes.items() if size < 2}
    if few:
        said = ", ".join(f"{name!r} has {size}" for name, size in few.items())
        why = f" ({_names(refused)} cannot be read)" if refused else ""
        raise Invalid(f"a class needs two images that can be read, to learn from and to judge by: {said}{why}")
    return made


def apart(data: Labelled, other: Labelled) -> tuple[Labelled, int]:
    """Return the first without what is byte-identical to an image of the other, and how many that were."""
    known = {one.sha256 for one in other.pictures}
    kept = tuple(one for one in data.pictures if one.sha256 not in known)
    return replace(data, pictures=kept), len(data) - len(kept)


def read_background(
    folder: Path, known: Iterable[Labelled], seen: Callable[[int, int], None] | None = None
) -> tuple[list[Picture], list[Refused]]:
    """Return the images of a folder that have no class, each once, and the files that are no images.

    Args:
        folder: With images, in any folders.
        known: Labelled images; those that are byte-identical to one of them are left out.
        seen: Is told now and then how many files were looked at, and how many there are.

    Raises:
        Invalid: There is no folder, or no image of no class in it.
    """
    if not folder.is_dir():
        raise Invalid(f"there is no folder {str(folder)!r}; give one with images of no class")
    sources = list(walk([folder], labels_from_folders=False))
    pictures, refused = look_at(((one.path, 0) for one in sources), len(sources), seen)
    labelled = {one.sha256 for data in known for one in data.pictures}
    kept = {one.sha256: one for one in reversed(pictures) if one.sha256 not in labelled}
    if len(kept) < 2:
        raise Invalid(f"{str(folder)!r} has {len(kept)} images that are in no class, expected two at least")
    return sorted(kept.values(), key=lambda one: one.sha256), refused


def check_classes(validation: Labelled, training: Labelled) -> None:
    """Check that both have the same classes, and so number them alike.

    Raises:
        Invalid: A class is in one of them only.
    """
    missing = sorted(set(training.classes) - set(validation.classes))
    unknown = sorted(set(validation.classes) - set(training.classes))
    if missing or unknown:
        said = [f"{', '.join(map(repr, missing))} missing from the validation images"] if missing else []
        said += [f"{', '.join(map(repr, unknown))} missing from the training images"] if unknown else []
        raise Invalid(f"the classes differ: {'; '.join(said)}; a class needs images in both")


def split(data: Labelled, share: float) -> tuple[Labelled, Labelled]:
    """Return data for training and for validation: of each class about `share`, but one at least, for validation.

    Which ones is decided by their contents, so that it is the same every time and on every machine.
    """
    held: set[int] = set()
    labels = data.labels
    for label in range(len(data.classes)):
        places = np.flatnonzero(labels == label).tolist()
        places.sort(key=lambda place: data.pictures[place].sha256)
        held.update(places[: max(1, round(share * len(places)))])
    parts = [
        replace(data, pictures=tuple(one for place, one in enumerate(data.pictures) if (place in held) is chosen))
        for chosen in (False, True)
    ]
    return parts[0], parts[1]


def look_at(
    files: Iterable[tuple[Path, int]], count: int, seen: Callable[[int, int], None] | None
) -> tuple[list[Picture], list[Refused]]:
    """Decode files, each with the place of its class, `count` in all; returns which can be, and which cannot."""
    pictures: list[Picture] = []
    refused: list[Refused] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        for number, one in enumerate(pool.map(_look, *zip(*files, strict=True)), 1):
            if isinstance(one, Picture):
                pictures.append(one)
            else:
                refused.append(one)
            if seen is not None:
                seen(number, count)
    return pictures, refused


def _look(path: Path, label: int) -> Picture | Refused:
    try:
        data = path.read_bytes()
        decode(data, size=_SIDE)
    except ImageRefused as error:
        return Refused(path, error.message)
    except OSError as error:
        return Refused(path, f"it cannot be read: {error.strerror or error}")
    return Picture(path, label, hashlib.sha256(data).hexdigest())


def _names(refused: Sequence[Refused]) -> str:
    named = ", ".join(repr(str(one.path)) for one in refused[:_NAMED])
    return f"{named} and {len(refused) - _NAMED} more" if len(refused) > _NAMED else named
