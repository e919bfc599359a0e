"""The follower: keeps the copies of all collections in step with the object store, told by the stream of changes."""

import logging
import threading
import time
from collections import defaultdict, deque
from contextlib import suppress
from pathlib import Path

from services.query.copy import CollectionCopy
from shared.catalog import Catalog, Collection
from shared.errors import ArtseekError, NotFound, Unavailable
from shared.index import Change, Changes, Ledger

_log = logging.getLogger(__name__)

_BLOCK_MS = 500
_PAUSE_S = 0.5
_RELIST_S = 60.0  # lists the store anew, should an announcement ever be lost


class Follower:
    """Owns the copies, which a background thread and every request bring up to date.

    So an answer is never older than what was announced before its request came. A request reads the stream, which is
    one round trip, and waits for what was announced of its own collection, but not for merged segments: they hold what
    their inputs held, so the background thread fetches them.
    """

    def __init__(self, *, catalog: Catalog, changes: Changes, ledger: Ledger, folder: Path) -> None:
        self._catalog, self._changes, self._ledger, self._folder = catalog, changes, ledger, folder
        self._copies: dict[str, CollectionCopy] = {}  # never changed, only replaced
        self._position: str | None = None  # None: the store must be listed
        self._pending: defaultdict[str, deque[Change]] = defaultdict(deque)  # read from the stream, not applied yet
        self._merged: defaultdict[str, deque[str]] = defaultdict(deque)  # merged segments to fetch, by collection
        self._turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)  # who applies what is pending
        self._lock = threading.RLock()  # held for a round trip, never while something is fetched
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
        self.catch_up(collection)
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
                self._fetch_merged()
                for copy in self._copies.values():
                    copy.verify_some()
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

    def catch_up(self, collection: str | None = None) -> None:
        """Apply what was announced of a collection, or of all, since the last time.

        Without an index, answers come from what is here.
        """
        if not self.connected:
            return
        try:
            self._read()
            for name in list(self._pending) if collection is None else [collection]:
                self._apply_pending(name)
        except Unavailable as error:
            _log.warning("cannot follow: %s", error)
            self.connected = False

    def _read(self) -> None:
        """Take what is new from the stream."""
        with self._lock:
            while self._position is not None:
                since = self._changes.since(self._position)
                if since is None:
                    self._position = None
                    return
                position, changes = since
                if position == self._position:
                    return
                for change in dict.fromkeys(changes):
                    if change.kind == "merged" and change.collection in self._copies:
                        self._merged[change.collection].append(change.value)
                    else:
                        self._pending[change.collection].append(change)
                self._position = position

    def _apply_pending(self, name: str) -> None:
        pending = self._pending.get(name)
        if not pending:
            return
        with self._turns[name]:
            while pending:
                self._apply(pending[0])
                pending.popleft()  # only now: who comes meanwhile waits for it

    def _apply(self, change: Change) -> None:
        name, copy = change.collection, self._copies.get(change.collection)
        if change.kind == "dropped":
            self._remove(name)
        elif copy is None or change.kind in {"collection", "rebuilt"}:
            self._synchronise(name)
        elif change.kind in {"segment", "merged"}:
            copy.add_segment(change.value)
        elif change.kind == "deleted":
            segment, image = change.value.split("/")
            copy.bury(segment, int(image))
            if segment in self._merged[name]:
                copy.add_segment(segment)  # until it is here, its inputs show the image
        elif change.kind == "index":
            copy.load_generation()

    def _fetch_merged(self) -> None:
        """Take the merged segments that were announced in place of their inputs."""
        for name, waiting in list(self._merged.items()):
            while waiting and not self._stop.is_set():
                if (copy := self._copies.get(name)) is not None:
                    copy.add_segment(waiting[0])
                waiting.popleft()

    def _list_without_index(self) -> None:
        """List the store once though the index is away, so that exact search answers."""
        if not self.listed.is_set():
            try:
                self._list_store()
            except Unavailable as error:
                _log.warning("listing waits: %s", error)

    def _list_all(self) -> None:
        if self._position is not None:  # all is well, this is to make sure: what is announced meanwhile is applied too
            self._list_store()
            return
        position = self._changes.position()  # before the listing: what comes later is applied again, which does no harm
        with self._lock:
            self._pending.clear()
            self._merged.clear()
        self._list_store()
        self._position = position

    def _list_store(self) -> None:
        known = self._copies.keys()
        names = self._catalog.names()
        for gone in known - set(names):
            self._remove(gone)
        for name in names:
            self._synchronise(name)
        if not self.listed.is_set():
            self._clear_away()
        self._listed_at = time.monotonic()
        self.listed.set()

    def _clear_away(self) -> None:
        """Remove the files of collections that were dropped while nobody followed: at the start, before all else."""
        followed = {copy.folder for copy in self._copies.values()}
        for folder in set(self._folder.glob("*-????????")) - followed:
            for file in (*folder.glob("*.arrow"), *folder.glob("*.lengths"), *folder.glob("*.part")):
                file.unlink()
            with suppress(OSError):  # not empty: it is no copy of ours
                folder.rmdir()

    def _synchronise(self, name: str) -> None:
        try:
            manifest = self._catalog.get(name)
            copy = self._copies.get(name)
            if copy is not None and copy.collection == manifest:
                copy.synchronise()
            else:
                self._begin(name, manifest)
        except NotFound:
            self._remove(name)
        except Unavailable:
            raise
        except ArtseekError as error:
            _log.error("the collection %s cannot be followed: %s", name, error)

    def _begin(self, name: str, manifest: Collection) -> None:
        with self._turns[name]:
            copy = self._copies.get(name)
            if copy is not None and copy.collection == manifest:  # somebody else has done it
                return
            if copy is not None:
                self._remove(name)
            copy = CollectionCopy(manifest, catalog=self._catalog, ledger=self._ledger, folder=self._folder)
            copy.synchronise()
            with self._lock:
                self._copies = {**self._copies, name: copy}

    def _remove(self, name: str) -> None:
        with self._lock:
            copy = self._copies.get(name)
            self._copies = {other: one for other, one in self._copies.items() if other != name}
            self._merged.pop(name, None)
        if copy is not None:
            copy.remove()
