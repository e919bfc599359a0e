"""Links: originals that stay where their owner has them. The store has an object of each that says where that is.

Several files may have the same content. The first path is the one that is read; the others are read if it cannot be.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from shared.errors import ObjectNotFound
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_LINK = StoredKind("link")
_MOST: Final = 32  # paths of a link
_SCHEME: Final = "file://"


@dataclass(frozen=True)
class LinkedPath:
    """Where a file lies, and when it was modified, in nanoseconds since 1970, as its content was compared."""

    path: Path
    modified: int


@dataclass(frozen=True)
class Link:
    """An original that is linked: its digest, its size in bytes, and its files, the first to be read first."""

    digest: str
    size: int
    files: tuple[LinkedPath, ...]


class Links:
    """Reads and writes links."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, digest: str) -> Link | None:
        """Return the link of an original; None: it has none.

        Raises:
            Invalid: It cannot be read.
        """
        key = layout.link_key(digest)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _LINK.loads(data, lambda values: _link(digest, values), place=key)

    def exists(self, digest: str) -> bool:
        """Return whether an original has a link."""
        return self._store.exists(layout.link_key(digest))

    def digests(self) -> Iterator[str]:
        """Yield the digests of the originals that have links."""
        for item in self._store.list(layout.LINKS):
            digest = item.key.removeprefix(layout.LINKS).removesuffix(".json")
            if layout.is_digest(digest):
                yield digest

    def add(self, digest: str, size: int, file: LinkedPath) -> Link:
        """Note a file of this content, as the one that is read first; returns the link."""
        before = self.get(digest)
        others = () if before is None else tuple(linked for linked in before.files if linked.path != file.path)
        link = Link(digest, size, (file, *others)[:_MOST])
        if link != before:
            self.put(link)
        return link

    def reorder(self, link: Link, files: Sequence[LinkedPath]) -> None:
        """Have other files of a link, or in another order."""
        self.put(replace(link, files=tuple(files)))

    def put(self, link: Link) -> None:
        """Write a link."""
        files = [{"uri": file.path.as_uri(), "modified": file.modified} for file in link.files]
        value = {"digest": link.digest, "size": link.size, "files": files}
        self._store.put(layout.link_key(link.digest), _LINK.dumps(value), "application/json")


def _link(digest: str, values: Any) -> Link:
    if values["digest"] != digest:
        raise ValueError(f"it is of {values['digest']!r}")
    files = tuple(LinkedPath(_path(file["uri"]), int(file["modified"])) for file in values["files"])
    return Link(digest, int(values["size"]), files)


def _path(uri: str) -> Path:
    """Return the path of a file; names need not be UTF-8, so links have addresses."""
    if not uri.startswith(_SCHEME + "/"):
        raise ValueError(f"{uri[:80]!r} names no file")
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix(_SCHEME))))
