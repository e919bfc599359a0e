"""What is long in pieces that one command can hold."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from shared.state.connection import Client, guarded

PIECE = 4096  # images of one command
_ENTRIES = 500  # of a hash that one command gives, about, where they may be long

Item = TypeVar("Item")


def pieces(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield a sequence in pieces of at most `PIECE` items."""
    for start in range(0, len(items), PIECE):
        yield items[start : start + PIECE]


def hash_pieces(client: Client, key: str, *, entries: int = _ENTRIES) -> Iterator[dict[bytes, bytes]]:
    """Yield a hash in pieces of about so many entries.

    An entry may come twice, and one that is written meanwhile may not come.
    """
    cursor = 0
    while True:
        with guarded():
            cursor, piece = client.hscan(key, cursor, count=entries)
        yield piece
        if not int(cursor):
            return
