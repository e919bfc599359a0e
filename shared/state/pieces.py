"""Long sequences in pieces that one command can hold."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

PIECE = 4096  # images of one command

Item = TypeVar("Item")


def pieces(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield a sequence in pieces of at most `PIECE` items."""
    for start in range(0, len(items), PIECE):
        yield items[start : start + PIECE]
