"""Work that is done ahead of whoever takes it, in order, and no further ahead than memory allows."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(
    make: Callable[[Item], Made], items: Iterable[Item], *, threads: int, name: str
) -> Iterator[tuple[Item, Made]]:
    """Yield each item with what `make` returns for it, in order; so many others are made on threads meanwhile.

    What was yielded is held no longer. `name` is that of the threads.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        ahead: deque[tuple[Item, Future[Made]]] = deque()

        def first() -> tuple[Item, Made]:
            item, made = ahead.popleft()
            return item, made.result()

        for item in items:
            ahead.append((item, pool.submit(make, item)))
            if len(ahead) > threads:
                yield first()
        while ahead:
            yield first()
