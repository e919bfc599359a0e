"""Renames of collections: those under way, and what a collection is called now that had another name.

A rename is noted under the new name, which nobody else can take from then on, until it has ended; and under the old
name for good, so that what was sent to the collection before finds it.
"""

from dataclasses import asdict, dataclass

from shared.errors import ObjectNotFound
from shared.storage import layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_RENAME = StoredKind("note of a rename")


@dataclass(frozen=True, kw_only=True)
class Rename:
    """A rename of a collection.

    Attributes:
        old: The name that it had.
        new: The name that it is given.
        number: The number of its embedding set under the old name.
        new_number: The number of the same embedding set under the new name.
        job: The job that asked for it.
        renamed: When the new name began to count, or was about to, in seconds since 1970.
    """

    old: str
    new: str
    number: int
    new_number: int
    job: str
    renamed: float

    @property
    def old_set(self) -> str:
        """The name of the embedding set before."""
        return layout.embedding_set_name(self.old, self.number)

    @property
    def new_set(self) -> str:
        """The name of the embedding set after."""
        return layout.embedding_set_name(self.new, self.new_number)

    def is_before(self, began: float) -> bool:
        """Return whether what began at a time, in seconds since 1970, meant the collection by its old name."""
        return began < self.renamed


class Renames:
    """Reads and writes the notes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def of(self, old: str) -> Rename | None:
        """Return the last rename of a collection that had this name; it may be under way, or have been given up."""
        return self._read(layout.rename_key(old))

    def taking(self, new: str) -> Rename | None:
        """Return the rename under way that gives a collection this name."""
        return self._read(layout.renaming_key(new))

    def leaving(self, old: str) -> Rename | None:
        """Return the rename under way of the collection that has or had this name."""
        rename = self.of(old)
        begun = None if rename is None else self.taking(rename.new)
        return begun if begun is not None and begun.old == old else None

    def under_way(self) -> list[Rename]:
        """Return the renames under way."""
        found = [self._read(item.key) for item in self._store.list(layout.RENAMING)]
        return [rename for rename in found if rename is not None]

    def old_names(self) -> set[str]:
        """Return the names that collections had before a rename; it may be under way, or have been given up."""
        keys = (item.key for item in self._store.list(layout.RENAMES))
        return {key.removeprefix(layout.RENAMES).removesuffix(".json") for key in keys}

    def begin(self, rename: Rename) -> None:
        """Note that a rename is under way; it may be noted again."""
        data = _RENAME.dumps(asdict(rename))
        self._store.put(layout.renaming_key(rename.new), data, "application/json")
        self._store.put(layout.rename_key(rename.old), data, "application/json")

    def end(self, rename: Rename) -> None:
        """Note that a rename has ended."""
        self._store.delete([layout.renaming_key(rename.new)])

    def forget(self, old: str) -> None:
        """Forget that a collection had this name: another one did, and is gone, or the rename was given up."""
        self._store.delete([layout.rename_key(old)])

    def _read(self, key: str) -> Rename | None:
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _RENAME.loads(data, lambda values: Rename(**values), place=key)
