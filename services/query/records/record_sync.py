"""Keeps a record index of each collection in step with the object store, by the stream of changes."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from shared.errors import ArtseekError, ObjectNotFound, Unavailable
from shared.records.record_index import RecordIndex
from shared.records.record_store import RecordStore, StoredChange
from shared.state import Changes
from shared.storage.object_store import ObjectStore
from shared.waits import WaitLog

_log = logging.getLogger(__name__)

_BLOCK_MS = 500
_PAUSE_S = 0.5
_STOP_S = 10.0
_RELIST_S = 60.0
_PATIENCE_S = 1.0  # that requests wait for what was announced before


class RecordSync:
    """Owns the record indexes, which a background thread and every request bring up to date.

    A request waits for what was announced before it came, but for no change longer than a second since that is being
    applied: a large import takes its time, and requests that come meanwhile do without it. Without Redis, the thread
    lists the store twice a second.
    """

    def __init__(self, store: ObjectStore, announcements: Changes, folder: Path) -> None:
        self._records, self._announcements, self._folder = RecordStore(store), announcements, folder / "records"
        self._indexes: dict[str, RecordIndex] = {}  # by collection; never changed, only replaced
        self._faults: dict[tuple[str, str], str] = {}  # changes that cannot be read, and why
        self._position: str | None = None  # None: the store must be listed
        self._pending: deque[tuple[str, str]] = deque()
        self._listed_at = 0.0
        self._turn = threading.RLock()
        self._applying_since = math.inf  # when the change that is being applied was begun
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="record-sync", daemon=True)
        self._connected = False
        self._wait_log = WaitLog(_log, "following records")

    @property
    def stream(self) -> str:
        """The key of the stream."""
        return self._announcements.key

    def index(self, collection: str, *, read: bool = True) -> RecordIndex | None:
        """Return the index of a collection's records, None if it has none; `read` reads the stream first."""
        if read:
            self._catch_up()
        return self._indexes.get(collection)

    def read_to(self, end: str) -> None:
        """Read the stream if it ends elsewhere than where it was read to, and wait for what is being applied."""
        if end != self._position or self._pending:
            self._catch_up()

    def start(self) -> None:
        """Open what there is, and begin to follow the changes on a background thread."""
        self.open_files()
        self._thread.start()

    def open_files(self) -> None:
        """Open the indexes that there are, as far as they came."""
        for path in sorted(self._folder.glob("*.sqlite")):
            self._indexes = {**self._indexes, path.stem: RecordIndex(path)}

    def close(self) -> None:
        """Close the indexes."""
        for index in self._indexes.values():
            index.close()

    def stop(self) -> None:
        """Stop following; what is being applied is finished first, unless a server keeps it waiting."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def follow(self) -> None:
        """Bring everything up to date, once.

        Raises:
            Unavailable: The store or Redis does not answer.
        """
        with self._turn:
            if self._position is None or time.monotonic() - self._listed_at > _RELIST_S:
                position = self._announcements.position()
                self._list()
                self._position = self._position or position
            self._connected = True
            self._read()
            self._apply_pending()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.follow()
                self._warm()
                self._announcements.since(self._position or "0-0", block_ms=_BLOCK_MS)
                self._wait_log.goes_on()
            except Unavailable as error:
                self._wait_log.waits(error)
                self.list_without_index()
                self._stop.wait(_PAUSE_S)
            except Exception as error:  # the store is listed anew
                self._wait_log.waits(error, trace=True)
                self._position = None
                self._stop.wait(_PAUSE_S)

    def _warm(self) -> None:
        """Warm each index; in `_run`, the last of the loop would be held on after it was dropped."""
        for index in self._indexes.values():
            index.warm(self._stop.is_set)

    def list_without_index(self) -> None:
        """List the store though Redis does not answer."""
        self._connected, self._position = False, None
        with suppress(Unavailable), self._turn:
            self._list()

    def _catch_up(self) -> None:
        waited = max(0.0, time.monotonic() - self._applying_since)
        if not self._connected or not self._turn.acquire(timeout=max(0.0, _PATIENCE_S - waited)):
            return
        try:
            self._read()
            self._apply_pending()
        except Unavailable as error:
            self._wait_log.waits(error)
            self._connected = False
        finally:
            self._turn.release()

    def _read(self) -> None:
        while self._position is not None:
            since = self._announcements.since(self._position)
            if since is None:
                self._position = None
                return
            position, changes = since
            if position == self._position:
                return
            self._pending.extend((change.set_name, change.value) for change in changes)
            self._position = position

    def _apply_pending(self) -> None:
        while self._pending:
            collection, name = self._pending[0]
            if name and (index := self._indexes.get(collection)) is not None:
                if name not in index.applied():
                    self._apply(collection, index, name, index.applied())
            else:
                self._synchronise(collection, self._records.changes(collection))
            self._pending.popleft()

    def _list(self) -> None:
        listed = self._records.all_changes()
        for collection in sorted({*listed, *self._indexes}):
            self._synchronise(collection, listed.get(collection, []))
        self._listed_at = time.monotonic()

    def _synchronise(self, collection: str, listed: Sequence[StoredChange]) -> None:
        """Apply the changes of a collection that were not applied yet."""
        index = self._indexes.get(collection)
        if not listed:
            if index is not None:
                self._remove(collection)
            return
        if index is None:
            index = RecordIndex(self._folder / f"{collection}.sqlite")
            self._indexes = {**self._indexes, collection: index}
        names = {change.name for change in listed}
        applied = index.applied()
        if applied and not self._is_known(collection, applied, names):  # the collection was dropped, and made again
            self._remove(collection)
            self._synchronise(collection, listed)
            return
        for change in listed:
            if change.name not in applied and not self._stop.is_set():
                self._apply(collection, index, change.name, applied)
        index.forget(applied - names)

    def _remove(self, collection: str) -> None:
        """Remove the index of a collection."""
        index = self._indexes[collection]
        self._indexes = {name: kept for name, kept in self._indexes.items() if name != collection}
        index.remove()

    def _is_known(self, collection: str, applied: Collection[str], names: Collection[str]) -> bool:
        """Return whether what was applied is still there, by itself or in a merge."""
        if any(name in applied for name in names):
            return True
        with suppress(ObjectNotFound, ArtseekError):
            return any(set(self._records.header(collection, name).inputs) & set(applied) for name in names)
        return True

    def _apply(self, collection: str, index: RecordIndex, name: str, applied: Collection[str]) -> None:
        try:
            inputs = self._records.header(collection, name).inputs
            if inputs and set(inputs) <= set(applied):
                index.note_applied(name)
                return
            self._applying_since = time.monotonic()
            with self._records.reading(collection, name, folder=self._folder) as changes:
                index.apply(name, changes)
        except ObjectNotFound:  # merged meanwhile: the merge is announced, or listed
            return
        except Unavailable:
            raise
        except ArtseekError as error:
            if self._faults.get((collection, name)) != str(error):
                _log.error("a change of the records of %s is left out: %s", collection, error)
            self._faults[collection, name] = str(error)
        finally:
            self._applying_since = math.inf
