"""Which rows of a view a filter of records chooses, what their facets are, and in which order they come."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from services.query.records.record_sync import RecordSync
from services.query.replica.id_index import Bools
from services.query.replica.mapped_segment import Ids, Rows
from services.query.replica.view import View
from shared.errors import Invalid
from shared.records.filters import NONE, RecordFilter
from shared.records.model import LABEL, PROSE
from shared.records.record_index import Facet, RecordIndex, label_places, places_of
from shared.records.value_columns import Ranks

_FACETS = 20  # fields that are counted where none is named
_SPARSE = 0.5  # a field with more values than this times its images is no facet unless it is asked for

Documents = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Joined:
    """The document of each row of a view, int32 [n]; 0: the image has no record."""

    ids: Ids
    images: Ids
    documents: Documents


class Selections:
    """Joins views with record indexes, as far as the stream was read; the last join of each index is kept with it."""

    def __init__(self, record_sync: RecordSync) -> None:
        self.record_sync = record_sync
        self._joined: WeakKeyDictionary[RecordIndex, _Joined] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def index(self, collection: str) -> RecordIndex | None:
        """Return the index of a collection's records, None if it has none, as far as the stream was read."""
        return self.record_sync.index(collection, read=False)

    def rows(self, collection: str, view: View, wanted: RecordFilter) -> Rows:
        """Return the live rows that pass a filter, ascending.

        Raises:
            Invalid: The filter does not fit the fields.
        """
        index = self.index(collection)
        if index is None:
            return _rows_without_records(view, wanted)
        matching = index.matching(wanted)
        documents = self._documents(view, index, len(matching))
        matching[0] = not wanted.text.strip() and all(
            isinstance(values, tuple) and NONE in values for name, values in wanted.criteria.items() if name != LABEL
        )
        passing = view.live & matching[documents]
        if (labels := wanted.labels) is not None:
            said, having = index.having_label(sorted(labels))
            size = len(matching)
            said, having = _sized(said, size), _sized(having, size)
            passing &= np.where(said[documents], having[documents], _of_labels(view, labels)[view.labels])
        return np.flatnonzero(passing)

    def facets(
        self, collection: str, view: View, rows: Rows | None, names: Sequence[str], *, limit: int
    ) -> dict[str, list[Facet]]:
        """Return the most frequent values of fields among rows, None for all; of fields that suit, if none is named."""
        index = self.index(collection)
        names = names or self._suitable(index)
        live = view.live
        if rows is not None:
            live = np.zeros(len(view.ids), dtype=np.bool_)
            live[rows] = True
        among: Ids | None = None
        documents = np.zeros(len(view.ids), dtype=np.int32)
        if index is not None:
            size = len(index.images)
            documents = self._documents(view, index, size)
            having = np.zeros(size, dtype=np.bool_)
            having[documents[live]] = True
            having[0] = False
            among = np.flatnonzero(having)
        found: dict[str, list[Facet]] = {}
        for name in names:
            if name == LABEL:
                found[name] = _label_facet(view, live, index, documents, among, limit)
            elif index is not None:
                found[name] = index.facet(name, among, limit=limit)
            else:
                found[name] = []
        return found

    def ordered(self, collection: str, view: View, rows: Rows, by: str) -> Rows:
        """Return rows in the order of a field's values, or backwards if `by` begins with ``-``; the rest is last.

        Raises:
            Invalid: There is no such field.
        """
        name, backwards = by.removeprefix("-"), by.startswith("-")
        index = self.index(collection)
        if name == LABEL:
            order = self._label_order(view, index)[rows]
        elif index is not None and (name in index.field_types()):
            ranks = index.order(name)
            documents = self._documents(view, index, len(ranks))
            order = ranks[documents[rows]]
        else:
            raise Invalid(f"no image of {collection!r} has the field {name!r} to sort by")
        last = np.iinfo(np.int32).max
        order = np.where(order == last, last, -order if backwards else order)
        return rows[np.argsort(order, kind="stable")]

    def _label_order(self, view: View, index: RecordIndex | None) -> Ranks:
        """Return where each row comes by the label that counts: that of its record, or else its own; int32 [n]."""
        if index is None:
            return places_of(view.names, label_places(view.names))[view.labels]
        by_record, by_row = index.label_order(view.names)
        places = by_record[self._documents(view, index, len(by_record))]
        return np.where(places < 0, by_row[view.labels], places)

    def _suitable(self, index: RecordIndex | None) -> list[str]:
        if index is None:
            return [LABEL]
        most = max(1.0, _SPARSE * (len(index.images) - 1))
        names = [name for name in index.field_types() if name not in PROSE and index.distinct(name) <= max(most, 50)]
        return [LABEL, *names[:_FACETS]]

    def _documents(self, view: View, index: RecordIndex, size: int) -> Documents:
        """Return the document of each row, less than `size`."""
        images = index.images
        with self._lock:
            joined = self._joined.get(index)
        if joined is None or joined.ids is not view.ids or joined.images is not images:
            joined = _join(view, images, joined)
            with self._lock:
                self._joined[index] = joined
        documents = joined.documents
        return documents if len(images) <= size else np.where(documents < size, documents, 0)


def _join(view: View, images: Ids, earlier: _Joined | None) -> _Joined:
    """Join a view with the images of an index; what was joined before is not looked up again."""
    ids, start = view.ids, 0
    documents = np.zeros(len(ids), dtype=np.int32)
    if (
        earlier is not None
        and earlier.images is images
        and earlier.ids.base is ids.base
        and len(earlier.ids) <= len(ids)
    ):
        start = len(earlier.ids)
        documents[:start] = earlier.documents
    order = np.argsort(images, kind="stable")
    places = np.searchsorted(images, ids[start:], sorter=order)
    found = order[np.minimum(places, len(images) - 1)]
    documents[start:] = np.where(images[found] == ids[start:], found, 0)
    return _Joined(ids, images, documents)


def _rows_without_records(view: View, wanted: RecordFilter) -> Rows:
    if wanted.text.strip():
        return np.empty(0, dtype=np.int64)
    passing = view.live.copy()
    for name, criterion in wanted.criteria.items():
        if name == LABEL and wanted.labels is not None:
            passing &= _of_labels(view, wanted.labels)[view.labels]
        elif not (isinstance(criterion, tuple) and NONE in criterion):
            passing[:] = False
    return np.flatnonzero(passing)


def _of_labels(view: View, labels: frozenset[str]) -> Bools:
    """Return which labels of a view's segments are wanted, by their numbers."""
    return np.array([name in labels for name in view.names], dtype=np.bool_)


def _sized(flags: Bools, size: int) -> Bools:
    return np.resize(flags, size) if len(flags) >= size else np.append(flags, np.zeros(size - len(flags), np.bool_))


def _label_facet(
    view: View, live: Bools, index: RecordIndex | None, documents: Documents, among: Ids | None, limit: int
) -> list[Facet]:
    """Return how many images have each label: that of their record, or else that of their row."""
    by_row = live
    counted: dict[str, int] = {}
    if index is not None and index.has_labels and among is not None:
        said, _ = index.having_label([])
        by_row = live & ~_sized(said, max(len(said), int(documents.max(initial=0)) + 1))[documents]
        counted = {facet.value: facet.count for facet in index.facet(LABEL, among, limit=2**31 - 1)}
    for name, count in zip(
        view.names, np.bincount(view.labels[by_row], minlength=len(view.names)).tolist(), strict=True
    ):
        counted[name] = counted.get(name, 0) + count
    facets = [Facet(name, count) for name, count in counted.items() if name and count]
    return sorted(facets, key=lambda facet: (-facet.count, facet.value))[:limit]
