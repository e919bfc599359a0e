"""The originals, wherever they are: the copies that the store has, and the files of their owners that are linked.

Whoever reads an original reads it here. A linked file is compared with the digest of its image before any of it is
handed out: one that was changed is another picture.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeVar

from shared.errors import Invalid, ObjectNotFound
from shared.storage import layout
from shared.storage.large_objects import LARGE, fetched
from shared.storage.link_roots import SETTING
from shared.storage.links import Link, LinkedPath, Links
from shared.storage.object_store import ObjectStore

_log = logging.getLogger(__name__)

_PART: Final = 2**20
Taken = TypeVar("Taken")

LinkState = Literal["whole", "missing", "changed"]
"""What became of a linked file: it is as it was, cannot be reached, or has other content."""


class LinkMissing(ObjectNotFound):
    """The file of a linked original is not reached."""


class LinkChanged(ObjectNotFound):
    """The file of a linked original has other content by now."""


class OriginalFiles:
    """Reads originals by their digests."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.links = store, Links(store)

    def exists(self, digest: str) -> bool:
        """Return whether an original has a copy or a link, whether or not the linked file can be reached."""
        return self.is_stored(digest) or self.links.exists(digest)

    def is_stored(self, digest: str) -> bool:
        """Return whether the store has a copy of an original."""
        return self._store.exists(layout.original_key(digest))

    def get(self, digest: str) -> bytes:
        """Return the bytes of an original.

        Raises:
            ObjectNotFound: There is no such original; if it is linked, `LinkMissing` or `LinkChanged`.
        """
        try:
            return self._store.get(layout.original_key(digest))
        except ObjectNotFound as error:
            link = self._link(digest, error)
        return self._taken(link, lambda file: _whole(file, link))

    def stream(self, digest: str) -> Iterator[bytes]:
        """Return the parts of an original; the first was read, so that it is known to be there.

        A linked file is read twice: before the first part, and as it is handed out. If it changes between the two, its
        last part is withheld.

        Raises:
            ObjectNotFound: As for `get`; also between two parts.
        """
        try:
            parts = self._store.stream(layout.original_key(digest))
            return chain([next(parts, b"")], parts)
        except ObjectNotFound as error:
            link = self._link(digest, error)
        return _parts(self._taken(link, lambda file: _compared(file, link)), link)

    @contextmanager
    def fetched(self, digest: str, size: int) -> Iterator[bytes | BinaryIO]:
        """Fetch an original of about `size` bytes: its bytes, or a file on the local disk if it is large.

        Raises:
            ObjectNotFound: As for `get`.
        """
        with ExitStack() as taken:
            try:
                data = taken.enter_context(fetched(self._store, layout.original_key(digest), size))
            except ObjectNotFound as error:
                data = taken.enter_context(self.fetched_link(self._link(digest, error)))
            yield data

    @contextmanager
    def fetched_link(self, link: Link) -> Iterator[bytes | BinaryIO]:
        """Fetch a linked original: its bytes, or a file on the local disk if it is large.

        Raises:
            ObjectNotFound: It is `LinkMissing` or `LinkChanged`.
        """
        if link.size < LARGE:
            yield self._taken(link, lambda file: _whole(file, link))
            return
        with tempfile.TemporaryFile() as copy:
            self._taken(link, lambda file: _copied(file, copy, link))
            yield copy

    # Linked files

    def link_file(self, file: "FoundLink") -> None:
        """Note a file as the original of its content."""
        self.links.add(file.digest, file.size, file.place)

    def state(self, link: Link, file: LinkedPath, *, read: bool = False) -> LinkState:
        """Return what became of a file; it is read if it was touched, or if `read`."""
        try:
            with self._store.link_roots.open(file.path) as opened:
                found = os.fstat(opened.fileno())
                if found.st_size != link.size:
                    return "changed"
                if found.st_mtime_ns == file.modified and not read:
                    return "whole"
                return "whole" if hashlib.file_digest(opened, "sha256").hexdigest() == link.digest else "changed"
        except (OSError, Invalid):
            return "missing"

    def flags(self, digest: str) -> list[str]:
        """Return what is to be said of an original: `link-missing`, `link-changed`, nothing of others.

        Raises:
            Invalid: Its link cannot be read.
        """
        link = None if self.is_stored(digest) else self.links.get(digest)
        if link is None:
            return []
        states = [self.state(link, file) for file in link.files]
        if "whole" in states:
            return []
        return ["link-changed" if "changed" in states else "link-missing"]

    def _link(self, digest: str, missing: ObjectNotFound) -> Link:
        link = self.links.get(digest)
        if link is None:
            raise missing
        return link

    def _taken(self, link: Link, take: Callable[[BufferedReader], Taken | None]) -> Taken:
        """Return what is taken of the first file of a link that has its content; `take` returns None of others."""
        changed = False
        for place in link.files:
            try:
                file = self._store.link_roots.open(place.path)
            except (OSError, Invalid) as error:
                _log.warning("a linked original cannot be read: %s", error)
                continue
            taken: Taken | None = None
            try:
                if os.fstat(file.fileno()).st_size == link.size:
                    taken = take(file)
                changed = changed or taken is None
            except OSError as error:
                _log.warning("a linked original cannot be read: %s", error)
            finally:
                if taken is not file:
                    file.close()
            if taken is not None:
                return taken
        if changed:
            raise LinkChanged(
                "the file that this image was added from has changed at its place, so that it is not this image any "
                "more: put it back, or sync its folder"
            )
        raise LinkMissing(
            "the file that this image was added from cannot be reached: its folder is not mounted or not below "
            f"{SETTING} here, or the file was moved; sync its folder"
        )


class FoundLink:
    """A file below a root, read once: what a link says of it."""

    def __init__(self, store: ObjectStore, path: Path, *, head: int = 0) -> None:
        """Read a file, and keep so many of its first bytes.

        Raises:
            Invalid: It does not lie below a root.
            OSError: It cannot be read, or was changed meanwhile.
        """
        roots = store.link_roots
        real = roots.admitted(path)
        with roots.open(real) as file:
            before = os.fstat(file.fileno())
            self.head = file.read(head)
            file.seek(0)
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError("it changed while it was read; add it again")
        self.size, self.place = after.st_size, LinkedPath(real, after.st_mtime_ns)


def _whole(file: BufferedReader, link: Link) -> bytes | None:
    data = file.read(link.size + 1)
    return data if layout.digest_of(data) == link.digest else None


def _compared(file: BufferedReader, link: Link) -> BufferedReader | None:
    if hashlib.file_digest(file, "sha256").hexdigest() != link.digest:
        return None
    file.seek(0)
    return file


def _copied(file: BufferedReader, copy: BinaryIO, link: Link) -> Literal[True] | None:
    """Copy a file; returns whether it is that of the link."""
    copy.seek(0)
    copy.truncate()
    found = hashlib.sha256()
    while part := file.read(_PART):
        found.update(part)
        copy.write(part)
    copy.flush()
    return True if found.hexdigest() == link.digest else None


def _parts(file: BufferedReader, link: Link) -> Iterator[bytes]:
    found, held = hashlib.sha256(), b""
    with file:
        while part := file.read(_PART):
            found.update(part)
            if held:
                yield held
            held = part
    if found.hexdigest() != link.digest:
        raise LinkChanged("the file that this image was added from changed while it was read")
    yield held
