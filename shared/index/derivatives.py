"""Derivatives: a JPEG of at most 1,600 pixels beside each large original, upright and in sRGB.

It is what pages show, what thumbnails are made of, and what another model embeds, so that a large original is read
once. An original that is small, and of a format that browsers show, is its own derivative. A derivative can always be
made again: backups leave it out, and an older collection gets it when it is first asked for.

It begins with a comment that says what the original is: JSON with a format number.
"""

from dataclasses import dataclass
from typing import BinaryIO

from shared.errors import ObjectNotFound
from shared.images import Decoder, ImageInfo
from shared.images.jpeg_notes import note_of, with_note
from shared.storage import layout
from shared.storage.documents import fetched_page
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import OriginalFiles

BOX = 1600
"""Pixels of the longer side."""
MEDIA_TYPE = "image/jpeg"
SHOWN_BY_BROWSERS = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_FORMAT = 1


@dataclass(frozen=True)
class Derivative:
    """A derivative: a JPEG, and what its original is."""

    data: bytes
    info: ImageInfo


def is_needed(*, media_type: str, width: int, height: int) -> bool:
    """Return whether an original of this type and size has a derivative: else it is shown as it is."""
    return max(width, height) > BOX or media_type not in SHOWN_BY_BROWSERS


class Derivatives:
    """Makes and reads derivatives. `shared.index.originals` deletes them, with their originals."""

    def __init__(self, store: ObjectStore, decoder: Decoder) -> None:
        self._store, self._decoder = store, decoder

    def make(self, digest: str, original: bytes | BinaryIO, info: ImageInfo, *, page: int = 1) -> Derivative:
        """Make and store the derivative of an original, or of a page of it.

        Raises:
            ImageRefused: The original cannot be decoded.
            Unavailable: The store does not answer, or too many images wait to be decoded.
        """
        made = Derivative(_packed(self._decoder.thumbnail(original, box=BOX, page=page), info), info)
        self._store.put(layout.derivative_key(digest), made.data, MEDIA_TYPE)
        if not OriginalFiles(self._store).exists(digest):  # deleted meanwhile, and its derivative with it
            self._store.delete([layout.derivative_key(digest)])
        return made

    def get(self, digest: str) -> Derivative | None:
        """Return the derivative of an original; None if there is none that can be read."""
        try:
            data = self._store.get(layout.derivative_key(digest))
        except ObjectNotFound:
            return None
        info = _info_of(data)
        return None if info is None else Derivative(data, info)

    def of_original(self, digest: str, size: int) -> Derivative:
        """Return the derivative of an original of so many bytes, made now if there is none.

        Raises:
            ObjectNotFound: There is no such original.
            ImageRefused: It cannot be decoded.
            Unavailable: The store does not answer, or too many images wait to be decoded.
        """
        found = self.get(digest)
        if found is not None:
            return found
        with fetched_page(self._store, digest, size) as (original, page):
            return self.make(digest, original, self._decoder.identify(original, page=page), page=page)


def _packed(jpeg: bytes, info: ImageInfo) -> bytes:
    return with_note(jpeg, {"original": vars(info)}, version=_FORMAT)


def _info_of(data: bytes) -> ImageInfo | None:
    """Return what the original of a derivative is; None if the derivative is of a newer format, or broken."""
    try:
        original = (note_of(data, version=_FORMAT) or {})["original"]
        return ImageInfo(**original | {"flags": tuple(original["flags"])})
    except (KeyError, TypeError):
        return None
