"""The values of fields as columns in memory, which are read when they are first asked for."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Ranks = npt.NDArray[np.int32]

_BUDGET: Final = 128 * 2**20  # bytes of all columns of a collection
_SPARSE: Final = 0.25  # fields that fewer documents have are kept as pairs, which take less memory then
_NONE: Final = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class Column:
    """Which documents have which values: the value of each document, or pairs where a document has several.

    Attributes:
        size: The numbers of values are less than this.
        single: The number of each document's value, -1 for none, int32 [documents]; None: there are pairs.
        docs: The document of each pair, int32 [n].
        codes: The number of its value, int32 [n].
    """

    size: int
    single: Numbers | None
    docs: Numbers = field(default_factory=lambda: _NONE)
    codes: Numbers = field(default_factory=lambda: _NONE)

    @classmethod
    def of_pairs(cls, docs: Numbers, codes: Numbers, size: int) -> Self:
        """Return a column of pairs."""
        if not bool(np.all(docs[1:] >= docs[:-1])):
            order = np.argsort(docs, kind="stable")
            docs, codes = docs[order], codes[order]
        if len(docs) and len(docs) < _SPARSE * (int(docs[-1]) + 1):
            return cls(size, None, docs, codes)
        if len(docs) and not bool(np.all(docs[1:] > docs[:-1])):
            return cls(size, None, docs, codes)
        single = np.full(int(docs[-1]) + 1 if len(docs) else 0, -1, dtype=np.int32)
        single[docs] = codes
        return cls(size, single)

    @property
    def bytes(self) -> int:
        """The size in memory."""
        return int(self.docs.nbytes + self.codes.nbytes) if self.single is None else int(self.single.nbytes)

    def documents(self, wanted: Bools, size: int) -> Bools:
        """Return which of `size` documents have one of the wanted values, bool [self.size]."""
        found = np.zeros(size, dtype=np.bool_)
        if self.single is not None:
            known = self.single[:size]
            found[: len(known)] = np.append(wanted, False)[known]
            return found
        docs = self.docs if wanted.all() else self.docs[wanted[self.codes]]
        found[docs[docs < size]] = True
        return found

    def counts(self, among: Ids | None) -> Ids:
        """Return how many of some documents, ascending, have each value, int64 [size]; None: of all."""
        if self.single is not None:
            codes = self.single if among is None else self.single[among[: np.searchsorted(among, len(self.single))]]
            return np.bincount(codes + 1, minlength=self.size + 1)[1:]
        codes = self.codes
        if among is not None and len(self.docs):
            chosen = np.zeros(int(self.docs[-1]) + 1, dtype=np.bool_)
            chosen[among[: np.searchsorted(among, len(chosen))]] = True
            codes = codes[chosen[self.docs]]
        return np.bincount(codes, minlength=self.size)

    def least(self, ranks: Ranks, size: int) -> Ranks:
        """Return the least rank of the values of each of `size` documents; the greatest number for those without."""
        none = np.iinfo(np.int32).max
        found = np.full(size, none, dtype=np.int32)
        if self.single is not None:
            known = self.single[:size]
            found[: len(known)] = np.append(ranks, np.int32(none))[known]
            return found
        inside = self.docs < size
        np.minimum.at(found, self.docs[inside], ranks[self.codes[inside]])
        return found

    def mended(self, documents: Ids, some: "Column") -> "Column":
        """Return the column in which some documents have the values that `some` says."""
        size = max(self.size, some.size)
        docs, codes = some.pairs()
        if self.single is not None and bool(np.all(docs[1:] > docs[:-1])):
            single = np.full(max(len(self.single), int(documents.max()) + 1), -1, dtype=np.int32)
            single[: len(self.single)] = self.single
            single[documents] = -1
            single[docs] = codes
            return Column(size, single)
        own_docs, own_codes = self.pairs()
        kept = ~np.isin(own_docs, documents)
        docs, codes = np.concatenate([own_docs[kept], docs]), np.concatenate([own_codes[kept], codes])
        return Column.of_pairs(docs, codes, size)

    def pairs(self) -> tuple[Numbers, Numbers]:
        """Return the pairs of document and value, in ascending order of documents."""
        if self.single is None:
            return self.docs, self.codes
        docs = np.flatnonzero(self.single >= 0).astype(np.int32)
        return docs, self.single[docs]


class Columns:
    """The columns that were asked for last, within a budget. Threads share it; a column is only ever replaced."""

    def __init__(self, read: Callable[[int], Column]) -> None:
        """Read columns by `read`, which takes the number of a field."""
        self._read = read
        self._held: OrderedDict[int, Column] = OrderedDict()
        self._ranks: dict[int, Ranks] = {}
        self._changes: dict[int, int] = {}  # by field: how often it was changed
        self._lock = threading.Lock()

    def get(self, field: int) -> Column:
        """Return the column of a field."""
        while True:
            with self._lock:
                if (column := self._held.get(field)) is not None:
                    self._held.move_to_end(field)
                    return column
                before = self._changes.get(field, 0)
            column = self._read(field)
            with self._lock:
                if self._changes.get(field, 0) == before:
                    self._hold(field, column)
                    return column

    def holds(self, field: int) -> bool:
        """Return whether the column of a field is in memory."""
        with self._lock:
            return field in self._held

    def has_room(self) -> bool:
        """Return whether another column fits."""
        with self._lock:
            held = [column.bytes for column in self._held.values()]
        return sum(held) + max(held, default=0) <= _BUDGET

    def ranks(self, field: int, make: Callable[[], Ranks]) -> Ranks:
        """Return where each value of a field comes in their order; made by `make` if that is not known."""
        with self._lock:
            held, before = self._ranks.get(field), self._changes.get(field, 0)
        if held is not None:
            return held
        made = make()
        with self._lock:
            if self._changes.get(field, 0) == before:
                self._ranks[field] = made
        return made

    def mend(self, field: int, documents: set[int], read: Callable[[], Column]) -> None:
        """Have a column say of some documents what `read` says of them."""
        with self._lock:
            held = self._held.get(field)
            self._changed(field)
        if held is None:
            return
        some = read()
        mended = held.mended(np.fromiter(sorted(documents), dtype=np.int64, count=len(documents)), some)
        with self._lock:
            self._changed(field)
            self._hold(field, mended)

    def forget(self, fields: Iterable[int]) -> None:
        """Forget the columns of fields."""
        with self._lock:
            for field in fields:
                self._held.pop(field, None)
                self._changed(field)

    def _changed(self, field: int) -> None:
        self._changes[field] = self._changes.get(field, 0) + 1
        self._ranks.pop(field, None)

    def _hold(self, field: int, column: Column) -> None:
        self._held[field] = column
        self._held.move_to_end(field)
        while len(self._held) > 1 and sum(held.bytes for held in self._held.values()) > _BUDGET:
            dropped, _ = self._held.popitem(last=False)
            self._ranks.pop(dropped, None)
