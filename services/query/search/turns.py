"""Turns: searches by the index that meet in one process are computed one after the other, or several at once.

numpy lets go of the interpreter in almost every call. Threads that compute at the same time take it from each other
dozens of times in a search, and each time one of them sleeps and is woken: together that took as long as the search.

Searches that wait for the turn and differ in their queries alone get it together: one thread computes all of them, with
one round trip to Redis and one call of numpy where each alone would need its own.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

_LONGEST_WAIT_S: Final = 0.1  # whoever has the turn may wait for a server that does not answer
_MOST: Final = 16  # searches that have a turn together: the first of them is answered no sooner than the last

Asked = TypeVar("Asked")
Found = TypeVar("Found")


@dataclass(eq=False)
class _Search(Generic[Asked, Found]):
    """A search in one thread, which waits for its turn or has it.

    Attributes:
        kind: Searches of equal kinds may be computed together; None: this one with no other.
        company: The searches that it computes, itself the first, once it has the turn; None before.
        woken: Released when it has the turn, or when another has computed it.
        found: What the search found, if another has computed it.
        error: Why it failed, if another has tried.
    """

    kind: Hashable
    asked: Asked
    company: "Sequence[_Search[Asked, Found]] | None" = None
    woken: threading.Lock = field(default_factory=threading.Lock)
    found: list[Found] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.woken.acquire()


class Turns(Generic[Asked, Found]):
    """Gives one thread at a time the turn, or after a while more of them."""

    def __init__(self, longest_wait_s: float = _LONGEST_WAIT_S) -> None:
        self._lock, self._longest_wait_s = threading.Lock(), longest_wait_s
        self._taken = False
        self._waiting: list[_Search[Asked, Found]] = []  # in the order in which they came

    def search(
        self, asked: Asked, compute: Callable[[Sequence[Asked]], Sequence[Found]], *, kind: Hashable = None
    ) -> Found:
        """Return what `compute` finds, called in this thread or in that of a search of the same kind.

        It is called with what one or several searches ask, and returns what each of them finds. Whatever it raises,
        each of these searches raises. A search that has waited for long is computed without the turn.
        """
        own: _Search[Asked, Found] = _Search(kind, asked)
        with self._lock:
            if self._taken:
                self._waiting.append(own)
            else:
                self._taken, own.company = True, [own]
        if own.company is None and not self._wait(own):
            return compute([asked])[0]
        if own.company is None:
            if own.error is not None:
                raise own.error
            return own.found[0]
        try:
            found = compute([search.asked for search in own.company])
            for search, its in zip(own.company, found, strict=True):
                search.found.append(its)
        except BaseException as error:
            for search in own.company:
                search.error = error
            raise
        finally:
            self._pass_on(own.company)
        return own.found[0]

    def _wait(self, own: _Search[Asked, Found]) -> bool:
        """Wait until a search has the turn or was computed by another; False: it goes on without."""
        if own.woken.acquire(timeout=self._longest_wait_s):
            return True
        with self._lock:
            if own in self._waiting:
                self._waiting.remove(own)
                return False
        own.woken.acquire()  # it has been in the company of another since, or has the turn
        return True

    def _pass_on(self, done: Sequence[_Search[Asked, Found]]) -> None:
        """Wake searches that were computed, and give the turn to the one that has waited longest, with those alike."""
        woken = list(done[1:])
        with self._lock:
            self._taken = bool(self._waiting)
            if self._waiting:
                first = self._waiting[0]
                alike = [search for search in self._waiting if search.kind is not None and search.kind == first.kind]
                first.company = (alike or [first])[:_MOST]
                self._waiting = [search for search in self._waiting if search not in first.company]
                woken.append(first)
        for search in woken:
            search.woken.release()
