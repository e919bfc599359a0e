"""The follower: keeps the copies of all collections in step with the object store, told by the stream of changes."""

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from services.query.copy import CollectionCopy
from shared.catalog import Catalog
from shared.errors import ArtseekError, NotFound, Unavailable
from shared.index import Change, Changes

_log = logging.getLogger(__name__)

_BLOCK_MS = 500
_PAUSE_S = 0.5
_RELIST_S = 60.0  # lists the store anew, should an announcement ever be lost


class Follower:
    """Owns the copies, which a background thread and every request bring up to date.

    So an answer is never older than what was announced before its request came.
    """

    def __init__(self, *, catalog: Catalog, changes: Changes, folder: Path) -> None:
        self._catalog, self._changes, self._folder = catalog, changes, folder
        self._copies: dict[str, CollectionCopy] = {}
        self._position: str | None = None  # None: the store must be listed
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._listed_at = 0.0
        self.connected = False  # whether the index answered the last time
        self.listed = threading.Event()

    @property
    def copies(self) -> dict[str, CollectionCopy]:
        """The copies by the names of their collections."""
        return self._copies

    def copy(self, collection: str) -> CollectionCopy:
        """Return the copy of a collection, in step.

        Raises:
            NotFound: There is no such collection.
        """
        self.catch_up()
        try:
            return self._copies[collection]
        except KeyError:
            raise NotFound(f"there is no collection {collection!r}") from None

    def start(self) -> None:
        """Begin to follow, on a thread of its own."""
        threading.Thread(target=self._run, name="follower", daemon=True).start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._position is None or time.monotonic() - self._listed_at > _RELIST_S:
                    self._list_all()
                self._changes.since(self._position or "0-0", block_ms=_BLOCK_MS)
                self.connected = True
                self.catch_up()
            except Unavailable as error:
                if self.connected or not self.listed.is_set():
                    _log.warning("following waits: %s", error)
                self.connected = False
                self._list_without_index()
                self._stop.wait(_PAUSE_S)
            except Exception:
                _log.exception("following failed, the store is listed anew")
                self._position = None
                self._stop.wait(_PAUSE_S)

    def catch_up(self) -> None:
        """Apply what was announced since the last time; without an index, answers come from what is here."""
        if not self.connected or self._position is None:
            return
        with self._lock:
            if self._position is None:  # lost in the meantime
                return
            try:
                since = self._changes.since(self._position)
                if since is None:
                    self._position = None
                    return
                position, changes = since
                for change in dict.fromkeys(changes):
                    self._apply(change)
                self._position = position
            except Unavailable as error:
                _log.warning("cannot follow: %s", error)
                self.connected = False

    def _apply(self, change: Change) -> None:
        copy = self._copies.get(change.collection)
        if change.kind == "dropped":
            self._remove(change.collection)
        elif copy is None or change.kind in {"collection", "rebuilt"}:
            self._synchronise(change.collection)
        elif change.kind == "segment":
            copy.add_segment(change.value)
        elif change.kind == "deleted":
            segment, image = change.value.split("/")
            copy.bury(segment, int(image))
        elif change.kind == "index":
            copy.load_generation()

    def _list_without_index(self) -> None:
        """List the store once though the index is away, so that exact search answers."""
        if not self.listed.is_set():
            try:
                self._list_store()
            except Unavailable as error:
                _log.warning("listing waits: %s", error)

    def _list_all(self) -> None:
        position = self._changes.position()  # before the listing: what comes later is applied again, which does no harm
        self._list_store()
        self._position = position

    def _list_store(self) -> None:
        with self._lock:
            names = self._catalog.names()
            for gone in self._copies.keys() - set(names):
                self._remove(gone)
            for name in names:
                self._synchronise(name)
            self._clear_away()
            self._listed_at = time.monotonic()
        self.listed.set()

    def _clear_away(self) -> None:
        """Remove the files of collections that were dropped while nobody followed."""
        followed = {copy.folder for copy in self._copies.values()}
        for folder in set(self._folder.glob("*-????????")) - followed:
            for file in (*folder.glob("*.arrow"), *folder.glob("*.part")):
                file.unlink()
            with suppress(OSError):  # not empty: it is no copy of ours
                folder.rmdir()

    def _synchronise(self, name: str) -> None:
        try:
            manifest = self._catalog.get(name)
            copy = self._copies.get(name)
            if copy is None or copy.collection != manifest:
                if copy is not None:
                    self._remove(name)
                copy = CollectionCopy(manifest, catalog=self._catalog, folder=self._folder)
            copy.synchronise()
            self._copies = {**self._copies, name: copy}
        except NotFound:
            self._remove(name)
        except Unavailable:
            raise
        except ArtseekError as error:
            _log.error("the collection %s cannot be followed: %s", name, error)

    def _remove(self, name: str) -> None:
        copies = dict(self._copies)
        copy = copies.pop(name, None)
        self._copies = copies
        if copy is not None:
            copy.remove()
