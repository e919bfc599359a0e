"""A ZIP file of originals, made while it is sent: no more of it is held than a part of one file."""

import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from shared.errors import ObjectNotFound
from shared.file_names import clean_path
from shared.images import ImageRefused
from shared.rpc.query import Image
from shared.storage.original_files import OriginalFiles
from shared.unique_names import UniqueNames

MISSING: Final = "not in this archive.txt"


class _Pieces:
    """Takes what a ZIP file is written as, until it is taken away to be sent; it cannot be read or rewound."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what was written is there."""

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


@dataclass(frozen=True)
class ZippedFile:
    """A file of a ZIP file: its path, when it was added, and the digest of the original that has its bytes.

    `read` returns them where no original has them. `title` names the file where it cannot be had.
    """

    path: str
    digest: str
    added: float
    title: str
    read: Callable[[], bytes] | None = None


def zip_of(originals: OriginalFiles, images: Iterable[Image]) -> Iterator[bytes]:
    """Yield the parts of a ZIP file with the originals of images, by their names; pages of a document are one file."""
    return zip_of_files(originals, _files_of(images))


def _files_of(images: Iterable[Image]) -> Iterator[ZippedFile]:
    names, held = UniqueNames(), set[str]()
    names.take(MISSING)
    for image in images:
        digest = image.document.digest or image.digest
        if digest not in held:
            held.add(digest)
            path = names.take(clean_path(image.name))
            yield ZippedFile(path, digest, image.added, f"{image.id} {image.name}")


def zip_of_files(originals: OriginalFiles, files: Iterable[ZippedFile]) -> Iterator[bytes]:
    """Yield the parts of a ZIP file; a text file in it names what could not be had.

    Originals are not compressed: hardly any could be.
    """
    pieces, missing = _Pieces(), list[str]()
    with zipfile.ZipFile(pieces, "w") as archive:  # type: ignore[call-overload]  # it needs to be written to alone
        for item in files:
            try:
                parts = originals.stream(item.digest) if item.read is None else iter([item.read()])
            except (ObjectNotFound, ImageRefused) as error:
                missing.append(f"{item.title}: {error}")
                continue
            with archive.open(_entry(item.path, item.added), "w", force_zip64=True) as file:
                for part in filter(None, parts):
                    file.write(part)
                    yield pieces.take()
        if missing:
            archive.writestr(MISSING, "\n".join(missing) + "\n")
    yield pieces.take()


def _entry(name: str, seconds: float) -> zipfile.ZipInfo:
    """Return the head of a file that was added at a time, which ZIP files know from 1980 on."""
    return zipfile.ZipInfo(name, max(time.gmtime(seconds)[:6], (1980, 1, 1, 0, 0, 0)))
