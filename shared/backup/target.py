"""Where a backup lies: files under names, in a folder or in a bucket of an S3 server."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

PART = 2**20
"""Bytes of a file in memory at a time."""


@dataclass(frozen=True)
class TargetFile:
    """A file of a target: its name, its size in bytes, and when it was written by the target's own clock."""

    name: str
    size: int
    modified: float


class Target(Protocol):
    """Files under names with slashes; those that read and write them see each whole or not at all."""

    def list(self, folder: str) -> Iterator[TargetFile]:
        """Yield the files in a folder and its subfolders; "" is the target itself."""

    def read(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes, a part at a time.

        Raises:
            NotFound: There is no such file.
        """

    def write(self, name: str, file: BinaryIO, size: int) -> None:
        """Write a file whole from the next `size` bytes of another; it is on disk when this returns."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that do not exist are passed over."""
