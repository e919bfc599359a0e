"""Reads lists that change while they are read, page by page, without missing what stays on them."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def all_items(read: Callable[[int], Sequence[Item]], key: Callable[[Item], int], *, limit: int) -> Iterator[Item]:
    """Yield the items of a list, each once; those that come onto it meanwhile may be left out.

    What leaves the list moves all behind it forward, past the place where the next page would begin. So each page has
    to begin with an item that was read already: where it does not, something may lie between the two, and the page
    before it is read again.

    Args:
        read: Returns at most `limit` items from a place on. Items keep their order, whatever comes and goes.
        key: Returns what tells an item from the others.
        limit: Items of a page, two at least; a page with fewer is the last.
    """
    seen: set[int] = set()
    offset = 0
    while True:
        page = read(offset)
        if offset and not (page and key(page[0]) in seen):
            offset = max(0, offset - limit)
            continue
        for item in page:
            if key(item) not in seen:
                seen.add(key(item))
                yield item
        if len(page) < limit:
            return
        offset += limit - 1
