"""The objects of a collection that is renamed: copied to the new name, then removed under the old one."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from shared.clients import Clients
from shared.errors import ObjectNotFound
from shared.index.unreported_segments import unreported_segments
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import StoredObject
from shared.storage.renames import Rename

_THREADS = 8
_OF_SETS = (layout.segments_prefix, layout.tombstones_prefix, layout.indexes_prefix, layout.maps_prefix)


class MovedObjects:
    """Copies and removes; every call may run twice. The caller holds the locks of both names."""

    def __init__(self, clients: Clients) -> None:
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog

    def copy_set(self, rename: Rename) -> None:
        """Make the objects of the new embedding set what those of the old one are."""
        # Tombstones last: an image that is deleted meanwhile must not come back.
        for prefix_of in (layout.indexes_prefix, layout.maps_prefix, layout.segments_prefix, layout.tombstones_prefix):
            self._mirror(prefix_of(rename.old_set), prefix_of(rename.new_set))

    def copy_records(self, rename: Rename) -> None:
        """Copy the trash: an original that only an entry there holds must not be without one for a moment; and records.

        A change of records that comes later is copied by `copy_late_records`.
        """
        self._mirror(layout.records_prefix(rename.old), layout.records_prefix(rename.new))
        self._mirror(layout.trash_prefix(rename.old), layout.trash_prefix(rename.new))

    def copy_late_records(self, rename: Rename) -> None:
        """Copy changes of records that were made while the collection got its new name; none is removed there."""
        old, new = layout.records_prefix(rename.old), layout.records_prefix(rename.new)
        for item in list(self._store.list(old)):
            with suppress(ObjectNotFound):
                self._store.copy(item.key, new + item.key.removeprefix(old))

    def move_evaluations(self, rename: Rename) -> None:
        """Move the evaluations, of each its report last, which makes it whole."""
        self._move(evaluation_layout.evaluations_prefix(rename.old), evaluation_layout.evaluations_prefix(rename.new))

    def move_kept_queries(self, rename: Rename) -> None:
        """Move the pictures that were searched for, so that the addresses of these searches go on."""
        self._move(evaluation_layout.kept_queries_prefix(rename.old), evaluation_layout.kept_queries_prefix(rename.new))

    def _move(self, old: str, new: str) -> None:
        """Move objects, those of JSON last, which make the others whole."""
        items = sorted(self._store.list(old), key=lambda item: (item.key.endswith(".json"), item.key))
        for item in items:
            with suppress(ObjectNotFound):  # deleted meanwhile, or another took its place
                self._store.copy(item.key, new + item.key.removeprefix(old))
        self._store.delete([item.key for item in reversed(items)])

    def move_duplicates(self, rename: Rename) -> None:
        """Move what is known of duplicates."""
        self._move(evaluation_layout.duplicates_prefix(rename.old), evaluation_layout.duplicates_prefix(rename.new))

    def remove_originals_of_copies(self, rename: Rename) -> None:
        """Remove what was copied; a segment that was written since, and is to be handed over, stays."""
        segments = layout.segments_prefix(rename.old_set)
        listed = self._catalog.segments(rename.old_set)
        late = set(listed) - set(self._catalog.segments(rename.new_set))
        waiting = unreported_segments(self._state.jobs, late)
        self._store.delete([segments + f"{segment}.arrow" for segment in listed if segment not in waiting])
        for prefix in (
            layout.tombstones_prefix(rename.old_set),
            layout.merges_prefix(rename.old_set),
            layout.indexes_prefix(rename.old_set),
            layout.maps_prefix(rename.old_set),
            layout.trash_prefix(rename.old),
            layout.records_prefix(rename.old),
        ):
            self._store.delete([item.key for item in self._store.list(prefix)])

    def remove_copies(self, rename: Rename) -> None:
        """Remove what was copied for a rename that is given up."""
        others = (layout.trash_prefix(rename.new), layout.records_prefix(rename.new))
        for prefix in (*(of(rename.new_set) for of in _OF_SETS), *others):
            self._store.delete([item.key for item in self._store.list(prefix)])

    def _mirror(self, old: str, new: str) -> None:
        """Copy what is missing or may be older below a prefix, and remove what is not there any more."""
        targets = {item.key.removeprefix(new): item for item in self._store.list(new)}
        sources = {item.key.removeprefix(old): item for item in self._store.list(old)}
        self._store.delete([target.key for name, target in targets.items() if name not in sources])

        def copy(name: str) -> None:
            if sources[name].size == 0:  # as a tombstone
                self._store.put(new + name, b"")
                return
            with suppress(ObjectNotFound):
                self._store.copy(old + name, new + name)

        self._each(copy, (name for name, item in sources.items() if not _is_copy(targets.get(name), item)))

    def _each(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="copy") as pool:
            for _ in pool.map(work, names):
                pass


def _is_copy(target: StoredObject | None, source: StoredObject) -> bool:
    """Return whether an object was copied since its source was last written."""
    if target is None or target.size != source.size:
        return False
    return source.size == 0 or target.modified > source.modified
