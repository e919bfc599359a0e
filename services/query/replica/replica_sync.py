"""Keeps the replicas of all collections in step with the object store, by the stream of changes."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from services.query.replica.change_queue import ChangeQueue
from services.query.replica.index_watch import IndexWatch
from services.query.replica.replica import Replica, replica_folder
from services.query.replica.replica_files import COPIES, clear_away, link_files
from shared.errors import ArtseekError, Invalid, NotFound, Unavailable
from shared.state import Change, State
from shared.storage import layout
from shared.storage.catalog import Catalog, EmbeddingSet
from shared.waits import WaitLog

_log = logging.getLogger(__name__)

_BLOCK_MS = 500
_PAUSE_S = 0.5
_STOP_S = 10.0
_RELIST_S = 60.0  # lists the store anew, should an announcement ever be lost


class ReplicaSync:
    """Owns the replicas, which a background thread and every request bring up to date.

    So an answer is never older than what was announced before its request came. A request asks where the stream ends,
    reads it if that is elsewhere than the thread has come to, and waits for what was announced of its own collection,
    but not for merged segments: they hold what their inputs held, so the background thread fetches them.

    A collection that changes to another model has a replica of each of its embedding sets. One of them is in use: all
    of a request is answered from it.
    """

    def __init__(self, catalog: Catalog, state: State, folder: Path) -> None:
        self._catalog, self._state, self._folder = catalog, state, folder
        self._replicas: dict[str, Replica] = {}  # by embedding set; never changed, only replaced
        self._in_use: dict[str, Replica] = {}  # by collection; never changed, only replaced
        self._faults: dict[str, str] = {}  # collection to why it cannot be followed
        self._queue = ChangeQueue(state.changes)
        self._turns: defaultdict[str, threading.RLock] = defaultdict(
            threading.RLock
        )  # held by the thread that applies what is pending
        self._lock = threading.RLock()  # held while the two maps of replicas are replaced
        self._index_watch = IndexWatch(catalog, state)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replica-sync", daemon=True)
        self._listed_at = 0.0
        self._wait_log = WaitLog(_log, "following")
        self._listing_wait_log = WaitLog(_log, "listing the object store")
        self.connected = False  # whether the index answered the last time
        self.listed = threading.Event()

    @property
    def replicas(self) -> dict[str, Replica]:
        """The replicas in use by the names of their collections; those of windows of images are not among them."""
        return {name: replica for name, replica in self._in_use.items() if not layout.is_regions(name)}

    @property
    def faults(self) -> dict[str, str]:
        """Why collections cannot be followed, by their names."""
        return {name: fault for name, fault in self._faults.items() if not layout.is_regions(name)}

    @property
    def stream(self) -> str:
        """The key of the stream."""
        return self._state.changes.key

    def ends_of(self, streams: Sequence[str]) -> tuple[str, ...] | None:
        """Return the ids of the last entries of streams, by one round trip; None: Redis does not answer."""
        if not self.connected:
            return None
        try:
            return self._state.buckets.fetch([], streams=streams).ends
        except Unavailable as error:
            self._wait_log.waits(error)
            self.connected = False
        return None

    def read_to(self, end: str) -> None:
        """Read the stream if it ends elsewhere than where it was read to."""
        if self.connected and end != self._queue.position:
            try:
                self._read()
            except Unavailable as error:
                self._wait_log.waits(error)
                self.connected = False

    def epoch(self, set_name: str) -> tuple[int, int]:
        """Return what is different as soon as anything was announced that may be of the buckets of an embedding set."""
        return self._queue.listings, self._queue.epochs[set_name]

    def replica(self, collection: str, *, read: bool = True) -> Replica:
        """Return the replica of a collection that is in use, in step with the stream; `read` reads that first.

        Raises:
            NotFound: There is no such collection.
            Unavailable: The collection cannot be read, and there is no replica of it.
        """
        if layout.is_regions(collection):  # what is known of windows is told of their images alone
            raise NotFound(f"there is no collection {collection!r}")
        self.catch_up(collection, read=read)
        try:
            return self._in_use[collection]
        except KeyError:
            if collection in self._faults:
                raise Unavailable(f"the collection {collection!r}: {self._faults[collection]}") from None
            raise self._missing(collection) from None

    def in_use(self, collection: str) -> Replica | None:
        """Return the replica of a collection that is in use, as it is known; None if none is."""
        return None if layout.is_regions(collection) else self._in_use.get(collection)

    def has_regions(self, collection: str) -> bool:
        """Return whether the windows of all images of a collection are indexed, or are about to be."""
        windows = self._in_use.get(layout.regions_of(collection))
        return windows is not None and windows.embedding_set.windows_of == "all"

    def windows(self, replica: Replica) -> Replica | None:
        """Return the replica of the windows of the images of a replica; None if its model has made none.

        It has what was read from the stream for the images: a search reads it once.
        """
        name, images = layout.regions_of(replica.embedding_set.collection), replica.embedding_set
        if name not in self._in_use and name not in map(layout.collection_of, list(self._queue.pending)):
            return None
        self.catch_up(name, read=False)
        windows = self._in_use.get(name)
        if windows is None:
            return None
        made = windows.embedding_set
        return windows if (made.model, made.version) == (images.model, images.version) else None

    def _missing(self, collection: str) -> NotFound:
        """Return the error that says that there is no such collection, or what it is called now."""
        try:
            return self._catalog.missing(collection)
        except Unavailable:
            return NotFound(f"there is no collection {collection!r}")

    def is_in_use(self, replica: Replica) -> bool:
        """Return whether a collection is still searched by this replica."""
        return self._in_use.get(replica.embedding_set.collection) is replica

    def filling(self, embedding_set: EmbeddingSet) -> Replica | None:
        """Return the replica of the embedding set that a collection changes to, given its set in use, or None."""
        replicas = [
            replica
            for replica in self._replicas.values()
            if replica.embedding_set.collection == embedding_set.collection
        ]
        return next((replica for replica in replicas if replica.embedding_set.number > embedding_set.number), None)

    def start(self) -> None:
        """Begin to follow the changes, on a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; what is being applied is finished first, unless a server keeps it waiting."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._queue.position is None or time.monotonic() - self._listed_at > _RELIST_S:
                    self._list_all()
                self._state.changes.since(self._queue.position or "0-0", block_ms=_BLOCK_MS)
                if not self.connected:
                    self._distrust_indexes()  # Redis may have lost a part of what it held
                self.connected = True
                self.catch_up()
                self._index_watch.check_due(self._in_use, self._stop)
                self._fetch_merged()
                # A loop would go on holding the last replica, and its files, after it was dropped.
                _ = [replica.verify_some() for replica in self._replicas.values()]
                if self.connected:
                    self._wait_log.goes_on()
            except Unavailable as error:
                self._wait_log.waits(error)
                self.connected = False
                self._list_without_index()
                self._stop.wait(_PAUSE_S)
            except Exception as error:  # the store is listed anew
                self._wait_log.waits(error, trace=True)
                self._queue.position = None
                self._stop.wait(_PAUSE_S)

    def catch_up(self, collection: str | None = None, *, read: bool = True) -> None:
        """Apply what was announced of a collection, or of all, since the last time.

        With `read`, the stream is read first; without, what was read before is applied.
        Without Redis, searches are answered from the replicas as they are.
        """
        if not self.connected:
            return
        try:
            if read:
                self._read()
            queue = self._queue
            awaited = queue.awaited(collection, self._in_use.get(collection)) if collection else list(queue.pending)
            for set_name in awaited:
                self._apply_pending(set_name)
        except Unavailable as error:
            self._wait_log.waits(error)
            self.connected = False

    def _read(self) -> None:
        """Read the new changes from the stream."""
        if not self._queue.read(self._replicas):
            self._distrust_indexes()

    def _apply_pending(self, set_name: str) -> None:
        pending = self._queue.pending.get(set_name)
        if not pending:
            return
        with self._turns[set_name]:
            while pending:
                self._apply(pending[0])
                pending.popleft()  # only now: a request that comes meanwhile waits for it

    def _apply(self, change: Change) -> None:
        set_name, replica = change.set_name, self._replicas.get(change.set_name)
        if change.kind == "dropped":
            self._remove(set_name)
        elif change.kind == "activated":
            self._activate(set_name)
        elif replica is None or change.kind in {"collection", "rebuilt"}:
            self._synchronise(set_name)
            self._index_watch.unchecked.add(layout.collection_of(set_name))
        elif change.kind in {"segment", "merged"}:
            replica.add_segment(change.value)
        elif change.kind == "deleted":
            segment, image_ids = change.deleted_rows
            replica.add_tombstones(segment, *image_ids)
            if segment in self._queue.merged[set_name]:
                replica.add_segment(segment)  # until it is here, its inputs show the image
        elif change.kind == "index":
            replica.load_generation()

    def _fetch_merged(self) -> None:
        """Fetch the merged segments that were announced, in place of their inputs."""
        for set_name, waiting in list(self._queue.merged.items()):
            while waiting and not self._stop.is_set():
                if (replica := self._replicas.get(set_name)) is not None:
                    replica.add_segment(waiting[0])
                waiting.popleft()

    def _distrust_indexes(self) -> None:
        """Have no index asked before it is checked."""
        self._queue.listings += 1
        self._index_watch.distrust(self._in_use)

    def _list_without_index(self) -> None:
        """List the store once though the index is away, so that exact search answers."""
        if not self.listed.is_set():
            try:
                self._list_store()
                self._listing_wait_log.goes_on()
            except Unavailable as error:
                self._listing_wait_log.waits(error)

    def _list_all(self) -> None:
        if self._queue.position is not None:  # a regular listing: what is announced meanwhile is applied too
            self._list_store()
            return
        # The position is taken before the listing: later changes are applied again, which does no harm.
        position = self._state.changes.position()
        self._queue.clear()
        self._list_store()
        self._queue.position = position

    def _list_store(self) -> None:
        copies = [] if self.listed.is_set() else list(self._folder.glob(COPIES))
        if not self.listed.is_set() and not copies:
            self._catalog.store.ensure_bucket()  # of a new system; one that is lost with all it held is not made anew
        # What a request begins to follow while the store is listed is not in the listing, and stays.
        followed, in_use = self._replicas, self._in_use
        # The first embedding set of a collection has its name.
        embedding_sets = {*self._catalog.stored_names(), *self._catalog.all_unused_embedding_sets()}
        for set_name in sorted(embedding_sets):
            self._synchronise(set_name)
        used = {replica.embedding_set.name for replica in self._in_use.values()}
        for dropped in followed.keys() - embedding_sets - used:
            if self._replicas.get(dropped) is followed[dropped]:
                self._remove(dropped)
        names = {layout.collection_of(set_name) for set_name in embedding_sets}
        self._faults = {name: reason for name, reason in self._faults.items() if name in names}
        for name in in_use.keys() - names:
            if self._in_use.get(name) is in_use[name]:
                self._remove(in_use[name].embedding_set.name)
        if not self.listed.is_set():
            clear_away(copies, {replica.folder for replica in self._replicas.values()})
            self._distrust_indexes()  # before the first request: nobody knows what happened to Redis until now
        self._index_watch.unchecked.update(names)
        self._queue.listings += 1
        self._listed_at = time.monotonic()
        self.listed.set()

    def _synchronise(self, set_name: str) -> None:
        """Bring the replica of an embedding set, or of the set that its collection uses, in step with the store.

        A collection that cannot be read is a fault of its own: the others are followed.
        """
        name = layout.collection_of(set_name)
        try:
            used = self._catalog.get(name)
            self._faults.pop(name, None)
            superseded = layout.number_of(set_name) < used.number
            manifest = used if superseded or used.name == set_name else self._catalog.embedding_set(set_name)
            replica = self._replicas.get(manifest.name)
            if replica is not None and replica.embedding_set == manifest:
                replica.synchronise()
            else:
                self._begin(manifest)
            if manifest == used:
                self._use(manifest)
            if superseded:
                self._remove(set_name)
        except NotFound:
            self._remove(set_name)
            in_use = self._in_use.get(name)
            if in_use is not None and in_use.embedding_set.name != set_name and not self._is_there(name):
                self._remove(in_use.embedding_set.name)
        except Unavailable:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, ArtseekError) else f"{type(error).__name__}: {error}"
            if self._faults.get(name) != reason:
                _log.error("the collection %s cannot be followed: %s", name, reason)
            self._faults[name] = reason

    def _is_there(self, name: str) -> bool:
        try:
            self._catalog.get(name)
        except NotFound:
            return False
        except Invalid:
            return True
        return True

    def _begin(self, embedding_set: EmbeddingSet) -> None:
        set_name = embedding_set.name
        with self._turns[set_name]:
            replica = self._replicas.get(set_name)
            if replica is not None and replica.embedding_set == embedding_set:  # another thread has done it
                return
            if replica is not None:
                self._remove(set_name)
            self._link_files(embedding_set)
            replica = Replica(embedding_set, catalog=self._catalog, state=self._state, folder=self._folder)
            replica.synchronise()
            with self._lock:
                self._replicas = {**self._replicas, set_name: replica}

    def _link_files(self, embedding_set: EmbeddingSet) -> None:
        """Link the files of a collection that was renamed; the tag of its embedding set tells that it is the same."""
        folder = replica_folder(self._folder, embedding_set)
        for replica in list(self._replicas.values()):
            if replica.embedding_set.tag == embedding_set.tag and replica.folder != folder:
                link_files(folder, replica.folder)

    def _activate(self, set_name: str) -> None:
        """Use the replica of the embedding set that was activated."""
        name = layout.collection_of(set_name)
        try:
            used = self._catalog.get(name)
        except NotFound:
            return
        except Invalid as error:
            self._faults[name] = str(error)
            return
        replica = self._replicas.get(used.name)
        if replica is None or replica.embedding_set != used:
            self._synchronise(used.name)
        else:
            self._use(used)  # it has every change that was announced before
        self._queue.forget_activation(name, set_name)

    def _use(self, embedding_set: EmbeddingSet) -> None:
        with self._lock:
            replica = self._replicas.get(embedding_set.name)
            if replica is not None and replica is not self._in_use.get(embedding_set.collection):
                self._in_use = {**self._in_use, embedding_set.collection: replica}

    def _remove(self, set_name: str) -> None:
        with self._lock:
            replica = self._replicas.get(set_name)
            self._in_use = {name: kept for name, kept in self._in_use.items() if kept is not replica}
            self._replicas = {name: kept for name, kept in self._replicas.items() if name != set_name}
        self._queue.merged.pop(set_name, None)
        if replica is not None:
            replica.remove()
