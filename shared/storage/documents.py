"""Documents: files of several pages, of which each page is an image of its own.

The first page is the file: it has the file's digest and id. Each further page has a page file for its original, some
bytes that name the document and the page. Its digest is that of these bytes, so that whatever holds for originals holds
for pages: claims, pins, trash, backups. The document itself is stored once, and stays as long as one of its page files.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import BinaryIO

from shared.errors import Invalid, ObjectNotFound
from shared.storage import layout
from shared.storage.large_objects import LARGE
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import OriginalFiles
from shared.versioned import StoredKind

_MARK = b"artseek page\n"
_FORMAT = 1
_FEW = 64  # images whose documents are looked up one by one; for more, all documents are listed
_LONGEST = 512  # bytes of a page file
_DOCUMENT = StoredKind("document")


@dataclass(frozen=True)
class DocumentPage:
    """Which page of which document an image is: the document's digest, the page from 1, how many pages there are."""

    document: str
    page: int
    pages: int

    @property
    def id(self) -> int:
        """The id of the document, which is that of its first page."""
        return layout.image_id(self.document)


@dataclass(frozen=True)
class PageFile:
    """The original of a page behind the first: the document's digest and size in bytes, and the page."""

    document: str
    page: int
    size: int

    @cached_property
    def data(self) -> bytes:
        """The bytes that are stored."""
        return _MARK + json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True).encode()

    @property
    def digest(self) -> str:
        """The digest of the page, as of its bytes."""
        return layout.digest_of(self.data)

    @classmethod
    def read(cls, data: bytes) -> "PageFile | None":
        """Return the page file that bytes are; None for any other file."""
        if not data.startswith(_MARK):
            return None
        try:
            fields = json.loads(data[len(_MARK) :])
            found = cls(fields["document"], fields["page"], fields["size"])
        except (ValueError, KeyError, TypeError):
            return None
        return found if found.data == data else None


@dataclass(frozen=True)
class Document:
    """A file of several pages: its digest, its pages, its size in bytes."""

    digest: str
    pages: int
    size: int

    def page_file(self, page: int) -> PageFile:
        """Return the original of a page behind the first."""
        return PageFile(self.digest, page, self.size)

    def page_digests(self) -> list[str]:
        """Return the digests of the pages behind the first, in order."""
        return [self.page_file(page).digest for page in range(2, self.pages + 1)]


class Documents:
    """Reads and writes what the store knows of documents."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, document: Document) -> None:
        """Note a document, before any page file of it is stored."""
        value = {"pages": document.pages, "size": document.size}
        self._store.put(layout.document_key(document.digest), _DOCUMENT.dumps(value), "application/json")

    def get(self, digest: str) -> Document | None:
        """Return the document with this digest; None: the file is none, or its pages were never added."""
        key = layout.document_key(digest)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _DOCUMENT.loads(data, lambda value: Document(digest, int(value["pages"]), int(value["size"])), place=key)

    def of_images(self, image_ids: Collection[int]) -> list[Document]:
        """Return the documents whose first pages have these ids."""
        if not image_ids or not self.any():
            return []
        few = len(image_ids) <= _FEW
        prefixes = [layout.documents_prefix(image_id) for image_id in image_ids] if few else [layout.DOCUMENTS]
        keys = [item.key for prefix in prefixes for item in self._store.list(prefix)]
        digests = [key.removeprefix(layout.DOCUMENTS).removesuffix(".json") for key in keys]
        found = [self.get(digest) for digest in digests if layout.image_id(digest) in image_ids]
        return [document for document in found if document]

    def any(self) -> bool:
        """Return whether there is a document at all."""
        return next(iter(self._store.list(layout.DOCUMENTS)), None) is not None

    def page_file(self, digest: str) -> PageFile | None:
        """Return the page file with this digest; None if it is another original, or gone."""
        try:
            return PageFile.read(self._store.get(layout.original_key(digest), start=0, size=_LONGEST))
        except ObjectNotFound:
            return None

    def has_page_file(self, document: Document) -> bool:
        """Return whether any page file of a document is stored."""
        return any(self._store.exists(layout.original_key(digest)) for digest in document.page_digests())

    def with_pages(self, image_ids: Sequence[int]) -> list[int]:
        """Return ids of images; with the first page of a document, those of all its pages."""
        documents = self.of_images(set(image_ids))
        pages = [layout.image_id(digest) for document in documents for digest in document.page_digests()]
        return list(dict.fromkeys([*image_ids, *pages]))


@contextmanager
def fetched_page(store: ObjectStore, digest: str, size: int) -> Iterator[tuple[bytes | BinaryIO, int]]:
    """Fetch what an image of a collection is decoded from, a file of about `size` bytes; and which page of it it is.

    Raises:
        ObjectNotFound: There is no such original, or its document is gone.
    """
    key, originals = layout.original_key(digest), OriginalFiles(store)
    data: bytes | None
    try:
        data = store.get(key) if size < LARGE else store.get(key, start=0, size=_LONGEST)
    except ObjectNotFound:  # it may be linked, which a page file never is
        data = None
    page = None if data is None else PageFile.read(data)
    if page is not None:
        with originals.fetched(page.document, page.size) as file:
            yield file, page.page
    elif data is not None and size < LARGE:
        yield data, 1
    else:
        with originals.fetched(digest, size) as file:
            yield file, 1


def packed(page: DocumentPage | None) -> str:
    """Return a page as a word."""
    return "" if page is None else f"{page.document}:{page.page}:{page.pages}"


def unpacked(word: str | None) -> DocumentPage | None:
    """Return the page that `packed` has made a word of.

    Raises:
        Invalid: It is no such word.
    """
    if not word:
        return None
    try:
        document, page, pages = word.split(":")
        return DocumentPage(document, int(page), int(pages))
    except ValueError as error:
        raise Invalid(f"{word[:80]!r} names no page of a document") from error
