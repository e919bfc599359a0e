"""The maps in the object store, one for an embedding set: an embedding set of another model has one of its own."""

from collections.abc import Iterable

import numpy as np

from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.maps.image_map import ImageMap
from shared.storage import layout
from shared.storage.object_store import ObjectStore


class Maps:
    """Reads and writes maps."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, set_name: str) -> ImageMap:
        """Return the map of an embedding set.

        Raises:
            NotFound: It has none.
            Invalid: It cannot be read; `TooNew` where a newer version wrote it.
        """
        key = layout.map_key(set_name)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            raise NotFound(f"{layout.collection_of(set_name)!r} has no map yet: have one made") from None
        return ImageMap.unpack(data, place=key)

    def exists(self, set_name: str) -> bool:
        """Return whether an embedding set has a map."""
        return self._store.exists(layout.map_key(set_name))

    def put(self, set_name: str, made: ImageMap) -> None:
        """Write the map of an embedding set; the caller holds the lock on its segments."""
        self._store.put(layout.map_key(set_name), made.pack())

    def set_names(self) -> list[str]:
        """Return the embedding sets that have a map."""
        return list(self._store.folders(layout.MAPS))

    def forget(self, set_name: str, image_ids: Iterable[int]) -> None:
        """Remove images from the map of an embedding set; one that cannot be read goes whole, and can be made anew.

        Raises:
            Unavailable: The store does not answer.
        """
        try:
            found = self.get(set_name)
        except NotFound:
            return
        except Invalid:
            self._store.delete([layout.map_key(set_name)])
            return
        left = found.of(np.setdiff1d(found.ids, np.fromiter(image_ids, np.int64)))
        if len(left.ids) < len(found.ids):
            self.put(set_name, left)
