"""Objects that are too large for memory are fetched into a file of the local disk, which is deleted after use."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from shared.storage.object_store import ObjectStore

LARGE = 32 << 20
"""Bytes from which an object is fetched into a file."""


@contextmanager
def fetched(store: ObjectStore, key: str, size: int) -> Iterator[bytes | BinaryIO]:
    """Fetch an object of about `size` bytes: its bytes, or a file if it is large.

    Raises:
        ObjectNotFound: There is no such object.
    """
    if size < LARGE:
        yield store.get(key)
        return
    with tempfile.TemporaryFile() as file:
        for part in store.stream(key):
            file.write(part)
        file.flush()
        yield file
