"""The names that collections have and had: what a collection is called now, by a name that it had before."""

from abc import ABC, abstractmethod
from collections.abc import Set
from typing import TYPE_CHECKING

from shared.errors import Invalid, NotFound, Renamed
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.storage.renames import Rename, Renames

if TYPE_CHECKING:
    from shared.storage.catalog import EmbeddingSet


class CollectionNames(ABC):
    """What is known of names, for who knows the collections."""

    def __init__(self, store: ObjectStore) -> None:
        self.renames = Renames(store)

    @abstractmethod
    def _active(self, name: str) -> "EmbeddingSet | None":
        """Return the embedding set that a collection uses; None if there is no collection of the name."""

    def missing(self, name: str) -> NotFound:
        """Return the error that says that there is no such collection, and what it is called now if it was renamed."""
        new = self._renamed_to(name)
        return NotFound(f"there is no collection {name!r}") if new is None else Renamed(name, new)

    def current_name(self, name: str) -> str:
        """Return what the collection is called now that has or had this name; the same if there is none."""
        return name if self.is_there(name) else self._renamed_to(name) or name

    def former_names(self, names: Set[str]) -> set[str]:
        """Return the names that some collections, given by theirs, had before, and that no collection has now."""
        return {old for old in self.renames.old_names() - names if self.current_name(old) in names}

    def name_since(self, name: str, began: float) -> str:
        """Return what a collection is called now that had this name at a time, in seconds since 1970.

        A collection that was made under the name after another was renamed is not meant.
        """
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            active = self._active(name)
            if active is not None and active.created <= began:
                break
            rename = self.renames.of(name)
            if rename is None or not rename.is_before(began) or not _is_done(rename, active):
                break
            name = rename.new
        return name

    def rename_of(self, set_name: str) -> Rename | None:
        """Return the rename by which a collection has left an embedding set; None if it has not."""
        rename = self.renames.of(layout.collection_of(set_name))
        if rename is None or layout.number_of(set_name) > rename.number:
            return None
        return rename if _is_done(rename, self._active(rename.old)) else None

    def is_there(self, name: str) -> bool:
        """Return whether there is a collection of this name, readable or not."""
        try:
            return self._active(name) is not None
        except Invalid:
            return True

    def first_set_name(self, name: str) -> str:
        """Return the name of the first embedding set of a collection that is to be made."""
        rename = self.renames.of(name)
        return layout.embedding_set_name(name, 0 if rename is None else rename.number + 1)

    def _renamed_to(self, name: str) -> str | None:
        seen = {name}
        while (rename := self.renames.of(name)) is not None and rename.new not in seen:
            name = rename.new
            if self.is_there(name):
                return name
            seen.add(name)
        return None


def _is_done(rename: Rename, active: "EmbeddingSet | None") -> bool:
    """Return whether the collection has left its old name, whose collection, if there is one, uses `active`."""
    return active is None or active.number > rename.number
