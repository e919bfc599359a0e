"""What the collections have to hold, by what was acknowledged.

An image whose operation was not answered may be as before or as was asked for. It is left alone from then on, until
it is read at the end of the run: then it has to be one of the two.
"""

import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.chaos.pictures import Picture

Place = Literal["absent", "present", "trash"]
COLLECTIONS = ("north", "south")


@dataclass(frozen=True)
class Standing:
    """Where an image is, and its label there."""

    place: Place
    label: str = ""


ABSENT = Standing("absent")


@dataclass(eq=False)
class Entry:
    """An image in a collection: what it may be, whether an operation is at it, and what it was before."""

    collection: str
    picture: Picture
    possible: frozenset[Standing] = frozenset({ABSENT})
    busy: bool = False
    retired: bool = False
    since: float = field(default_factory=time.monotonic)
    history: list[tuple[float, frozenset[Standing]]] = field(default_factory=list)

    @property
    def standing(self) -> Standing:
        """What the image is, if that is known; else one of what it may be."""
        return min(self.possible, key=lambda standing: (standing.place, standing.label))

    @property
    def is_certain(self) -> bool:
        """Whether it is known where the image is."""
        return not self.busy and not self.retired and len({standing.place for standing in self.possible}) == 1

    def __str__(self) -> str:
        return f"{self.collection}/{self.picture.id} ({self.picture.name})"


class Model:
    """The images of all collections, for all threads."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, int], Entry] = {}
        self._by_id: dict[tuple[str, int], Entry] = {}
        self._next = 0

    def new(self, collection: str, count: int) -> list[Entry]:
        """Return entries of new pictures, busy."""
        with self._lock:
            numbers = range(self._next, self._next + count)
            self._next += count
        return self.of_pictures(collection, [Picture(self._seed, number) for number in numbers])

    def of_pictures(self, collection: str, pictures: Iterable[Picture]) -> list[Entry]:
        """Return the entries of pictures in a collection, busy; those that are in use already are left out."""
        taken = []
        with self._lock:
            for picture in pictures:
                key = (collection, picture.number)
                entry = self._entries.get(key)
                if entry is None:
                    entry = self._entries[key] = Entry(collection, picture)
                    self._by_id[collection, picture.id] = entry
                if not entry.busy and not entry.retired:
                    entry.busy = True
                    taken.append(entry)
        return taken

    def take(self, choice: random.Random, collection: str, place: Place, count: int) -> list[Entry]:
        """Return up to `count` images that are certainly in a place, busy."""
        with self._lock:
            found = [
                entry
                for entry in self._entries.values()
                if entry.collection == collection and entry.is_certain and entry.standing.place == place
            ]
            taken = choice.sample(found, min(count, len(found)))
            for entry in taken:
                entry.busy = True
        return taken

    def known(self, choice: random.Random, collection: str, place: Place) -> Entry | None:
        """Return an image that is certainly in a place, for a look; it is not busy."""
        with self._lock:
            found = [
                entry
                for entry in self._entries.values()
                if entry.collection == collection and entry.is_certain and entry.standing.place == place
            ]
        return choice.choice(found) if found else None

    def find(self, collection: str, image: int) -> Entry | None:
        """Return the entry of an image, None if no operation ever had it."""
        with self._lock:
            return self._by_id.get((collection, image))

    def settle(self, entry: Entry, *standings: Standing) -> None:
        """Note what an image is: the operation was acknowledged."""
        with self._lock:
            self._change(entry, frozenset(standings))
            entry.busy = False

    def release(self, entries: Sequence[Entry]) -> None:
        """Note that images are as before."""
        with self._lock:
            for entry in entries:
                entry.busy = False

    def lose(self, entry: Entry, *standings: Standing) -> None:
        """Note that an image may be as before, or as was asked for: nobody said."""
        with self._lock:
            self._change(entry, entry.possible | frozenset(standings))
            entry.busy, entry.retired = False, True

    def doubt_since(self, moment: float) -> int:
        """Take back what was acknowledged since a moment, since a server has lost it; returns of how many images."""
        count = 0
        with self._lock:
            for entry in self._entries.values():
                later = [possible for when, possible in entry.history if when >= moment]
                if later or entry.busy:
                    entry.possible = entry.possible.union(*later)
                    entry.retired = True
                    count += 1
        return count

    def entries(self) -> list[Entry]:
        """Return all entries."""
        with self._lock:
            return list(self._entries.values())

    @staticmethod
    def _change(entry: Entry, possible: frozenset[Standing]) -> None:
        now = time.monotonic()
        entry.history.append((now, entry.possible))
        entry.possible, entry.since = possible, now
