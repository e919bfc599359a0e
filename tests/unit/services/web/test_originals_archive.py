"""The ZIP file of originals: what is in it under which name, and what it says of those that cannot be had."""

import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from services.web.originals_archive import MISSING, zip_of
from shared.errors import ObjectNotFound
from shared.rpc.query import Image

if TYPE_CHECKING:
    from shared.storage.original_files import OriginalFiles


class Originals:
    """Has all originals but ``lost``: each is its digest, in two parts."""

    def stream(self, digest: str) -> Iterator[bytes]:
        if digest == "lost":
            raise ObjectNotFound("there is no original lost")
        return iter([digest.encode(), b"", b"!"])


def image(number: int, name: str, digest: str, *, document: str = "") -> Image:
    made = Image(id=number, name=name, digest=digest, added=0.0)
    if document:
        made.document.digest = document
    return made


def test_names_are_safe_and_once_each_and_what_is_lost_is_told() -> None:
    images = [
        image(1, "a.jpg", "one"),
        image(2, "a.jpg", "two"),
        image(3, "../../etc/Mühle.jpg", "three"),
        image(4, "gone.jpg", "lost"),
        image(5, "book.pdf", "page 1", document="book"),
        image(6, "book.pdf", "page 2", document="book"),
        image(7, MISSING, "seven"),
    ]
    parts = list(zip_of(cast("OriginalFiles", Originals()), images))
    assert all(parts)
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert found == {
        "a.jpg": "one!",
        "a (2).jpg": "two!",
        "etc/Mühle.jpg": "three!",
        "book.pdf": "book!",
        "not in this archive (2).txt": "seven!",
        MISSING: "4 gone.jpg: there is no original lost\n",
    }
