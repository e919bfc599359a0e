"""The replica of one collection: its segments as files, the table of their rows, and the index in use."""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Container, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import numpy as np

from services.query.replica.mapped_segment import MappedSegment, Vectors, remove_files
from services.query.replica.row_table import RowTable
from services.query.replica.segment_files import PART, locked_part, remove_part
from services.query.replica.view import View
from shared.errors import Invalid, NotFound, ObjectNotFound, Unavailable
from shared.index.generations import Generation
from shared.state import State
from shared.storage import layout, segments
from shared.storage.catalog import Catalog, EmbeddingSet

_log = logging.getLogger(__name__)

_FETCHES = 8
_LISTINGS = 5  # at most in a row, while segments are merged faster than they are fetched


def replica_folder(folder: Path, embedding_set: EmbeddingSet) -> Path:
    """Return where the replica of an embedding set lies below the folder of all."""
    return folder / f"{embedding_set.collection}-{embedding_set.tag}"


class Replica:
    """The replica of an embedding set. Readers take `view` and do not wait; several threads may make changes.

    The object store is the truth. A segment that cannot be read there is named in `damaged`, and the rest is served.
    A segment that is on local disk already is served from there.
    """

    def __init__(self, embedding_set: EmbeddingSet, *, catalog: Catalog, state: State, folder: Path) -> None:
        self.embedding_set = embedding_set
        self.generation: Generation | None = None
        self.index_fault: str | None = None  # what Redis lacks of the index, so that it is not asked
        self._catalog, self._state = catalog, state
        self.folder = replica_folder(folder, embedding_set)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._table = RowTable()
        self._mapped: dict[str, MappedSegment] = {}  # by segment; never changed, only replaced
        self._replaced: frozenset[str] = frozenset()  # segments that were merged into a segment that is here
        self._opened = False
        self._unreadable: dict[str, str] = {}  # segment to what is wrong with it
        self._missing: frozenset[str] = frozenset()
        self._unverified: deque[MappedSegment] = deque()  # found on disk, and not read whole yet
        self._changing = threading.RLock()  # held for milliseconds: never while something is fetched
        self._synchronising = threading.Lock()

    @property
    def view(self) -> View:
        """The rows as they are now."""
        return self._table.view

    def find(self, image_id: int) -> tuple[MappedSegment, int]:
        """Return segment and row of an image.

        Raises:
            NotFound: The collection has no such image.
        """
        view = self.view
        row = view.row(image_id)
        if row is None:
            raise NotFound(f"the collection {self.embedding_set.collection!r} has no image {image_id}")
        return view.place(row)

    def embeddings(self, image_ids: Sequence[int]) -> Vectors:
        """Return the embeddings of images, float32 [n, dim].

        Raises:
            NotFound: The collection lacks one of the images.
        """
        view = self.view
        rows = view.find(np.array(image_ids, dtype=np.int64))
        if len(rows) and rows.min() < 0:
            missing = image_ids[int(rows.argmin())]
            raise NotFound(f"the collection {self.embedding_set.collection!r} has no image {missing}")
        vectors = np.empty((len(rows), self.embedding_set.dim), dtype=np.float32)
        order = np.argsort(rows)
        for segment, part, segment_rows in view.parts(rows[order]):
            vectors[order[part]] = segment.vectors[segment_rows]
        return vectors

    @property
    def damaged(self) -> list[str]:
        """The names of the segments that are damaged or missing, sorted."""
        return sorted({*self._unreadable.copy(), *self._missing})

    # Changes

    def synchronise(self) -> None:
        """Bring the replica in step with the object store's listing.

        Raises:
            Unavailable: The object store does not answer.
        """
        name = self.embedding_set.name
        with self._synchronising:
            found = [] if self._opened else sorted(self.folder.glob("*"))  # what comes later is of other processes
            for _ in range(_LISTINGS):
                present = set(self._mapped)  # a segment that comes while the store is listed may not be in the list
                indexed = self._indexed()
                # Tombstones first: those of a segment go after it was merged, and the merged segment has them too.
                deleted = self._catalog.tombstones_by_segment(name)
                listed = set(self._catalog.segments(name))
                with self._changing:
                    self._table.add_tombstones(deleted)
                if not self._opened:
                    self._open_files(found, listed)
                    self._opened = True
                if self._take_listed(listed, present - listed):
                    break  # all that was listed was still there when it was fetched
            with self._changing:
                self._table.forget_tombstones(deleted)
            self._note_missing(listed, indexed)
        self.load_generation()

    def add_segment(self, segment: str) -> None:
        """Fetch a segment that was announced, unless it is here, and take it in place of what it was merged from."""
        if segment in self._mapped or segment in self._replaced:
            return
        try:
            mapped = self._fetch(segment)
        except ObjectNotFound:  # merged or dropped since; or lost
            self.synchronise()
            return
        if mapped is not None:
            self._swap([mapped])

    def add_tombstones(self, segment: str, *image_ids: int) -> None:
        """Mark rows of a segment as deleted."""
        with self._changing:
            self._table.add_tombstones({segment: set(image_ids)})

    def load_generation(self) -> None:
        """Load the index generation in use."""
        try:
            current = self._catalog.current_index(self.embedding_set.name)
        except Invalid as error:
            _log.error("%s: which generation is in use cannot be read: %s", self.embedding_set.collection, error)
            current = None
        if current is None:
            self.generation = None
        elif self.generation is None or self.generation.number != current.generation:
            try:
                self.generation = Generation.load(self._catalog.store, self.embedding_set, current.generation)
            except (NotFound, Invalid) as error:
                _log.error(
                    "%s: generation %d is not usable: %s", self.embedding_set.collection, current.generation, error
                )
                self.generation = None

    def verify_some(self) -> bool:
        """Read a file of an earlier run whole, and fetch it again if it is damaged; returns whether there are more."""
        if not self._unverified:
            return False
        mapped = self._unverified.popleft()
        if self._mapped.get(mapped.name) is not mapped:
            return True
        fresh: MappedSegment | None
        try:
            fresh = MappedSegment(mapped.path, verify=True)
        except (Invalid, OSError) as error:
            _log.warning("segment %s of %s is fetched again: %s", mapped.name, self.embedding_set.collection, error)
            with suppress(ObjectNotFound):
                fresh = self._fetch(mapped.name, anew=True)
                self._swap([fresh] if fresh else [], [mapped])
        else:
            if fresh.inode != mapped.inode:  # another process has found the file damaged, and fetched it
                self._swap([fresh], [mapped])
        return True

    def remove(self) -> None:
        """Remove the files; a search in the replica goes on with what it has mapped."""
        with self._changing:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _open_files(self, found: Sequence[Path], listed: set[str]) -> None:
        """Map the files that were found of an earlier run, or of another process; what else was found is deleted."""
        for path in found:
            if path.suffix == PART:
                remove_part(path)
            elif path.suffix not in {".arrow", ".lengths"} or path.stem not in listed:
                path.unlink(missing_ok=True)
        mapped_segments = []
        for path in [path for path in found if path.suffix == ".arrow" and path.stem in listed]:
            try:
                mapped_segments.append(self._checked(MappedSegment(path)))
            except (Invalid, OSError, KeyError) as error:
                _log.warning("segment %s of %s is fetched again: %s", path.stem, self.embedding_set.collection, error)
                remove_files(path)
        self._unverified.extend(mapped_segments)
        self._swap(mapped_segments)

    def _take_listed(self, listed: set[str], removed: set[str]) -> bool:
        """Fetch the listed segments that are missing, then drop the removed ones; returns whether all were found."""
        complete = True
        fetched: list[MappedSegment] = []  # if segments are removed, all are added and removed in one step
        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as pool:
            fresh = sorted(listed - self._mapped.keys() - self._replaced_without(removed))
            waiting: set[Future[MappedSegment | None]] = {pool.submit(self._fetch, segment) for segment in fresh}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        try:
                            mapped = future.result()
                        except ObjectNotFound:
                            complete = False
                            continue
                        fetched += [mapped] if mapped else []
                    if not removed:
                        self._swap(fetched)
                        fetched = []
            finally:
                pool.shutdown(cancel_futures=True)
        if complete or fetched:
            # A segment that was not found may hold the rows of the removed ones: these stay until the next listing.
            going = [self._mapped[segment] for segment in removed if segment in self._mapped] if complete else []
            self._swap(fetched, going)
        with self._changing:
            for segment in self._unreadable.keys() - listed:
                del self._unreadable[segment]
        return complete

    def _swap(self, come: Sequence[MappedSegment], go: Sequence[MappedSegment] = ()) -> None:
        """Add segments, and take out others and those that were merged into segments here; all in one step."""
        with self._changing:
            going = {mapped.name: mapped for mapped in go if self._mapped.get(mapped.name) is mapped}
            before = self._replaced_without(going)
            replaced = before.union(*(mapped.inputs for mapped in come))
            added = {mapped.name: mapped for mapped in come if mapped.name not in replaced}
            # A segment here under the name of a segment that comes was fetched twice at a time, or is damaged.
            for segment in (*(replaced - before), *added):
                if segment in self._mapped:
                    going[segment] = self._mapped[segment]
            self._table.swap(list(added.values()), going.values())
            self._mapped = {**{name: mapped for name, mapped in self._mapped.items() if name not in going}, **added}
            self._replaced = replaced
            for segment in {*going, *(mapped.name for mapped in come)} - self._mapped.keys():
                remove_files(self.folder / f"{segment}.arrow")

    def _replaced_without(self, going: Container[str]) -> frozenset[str]:
        """Return the segments that were merged into a segment that is here and stays."""
        if not any(mapped.inputs for name, mapped in self._mapped.items() if name in going):
            return self._replaced
        return frozenset().union(*(mapped.inputs for name, mapped in self._mapped.items() if name not in going))

    def _checked(self, mapped: MappedSegment) -> MappedSegment:
        """Return a segment whose embeddings are of the collection's model.

        Raises:
            Invalid: They are of another.
        """
        segments.check_model(mapped.rows, model=self.embedding_set.model, version=self.embedding_set.version)
        return mapped

    def _fetch(self, segment: str, *, anew: bool = False) -> MappedSegment | None:
        """Return a segment from the store; None, and why in `_unreadable`, if it is damaged.

        One that another process has fetched meanwhile is mapped, unless it is to be fetched `anew`.
        """
        path = self.folder / f"{segment}.arrow"
        with locked_part(path) as part:
            if not anew and (mapped := self._kept(path)) is not None:
                return mapped
            self._catalog.store.download(layout.segment_key(self.embedding_set.name, segment), part)
            try:
                mapped = self._checked(MappedSegment(part, verify=True))
            except (Invalid, KeyError) as error:
                with self._changing:
                    if self._unreadable.get(segment) != str(error):
                        _log.error(
                            "segment %s of %s is damaged and not served: %s",
                            segment,
                            self.embedding_set.collection,
                            error,
                        )
                    self._unreadable[segment] = str(error)
                return None
            with self._changing:
                self._unreadable.pop(segment, None)
            path.with_suffix(".lengths").unlink(missing_ok=True)
            part.replace(path)
            mapped.path = path
        return mapped

    def _kept(self, path: Path) -> MappedSegment | None:
        """Return the segment whose file another process has fetched; None if there is none that can be read."""
        try:
            return self._checked(MappedSegment(path))
        except (Invalid, OSError, KeyError):
            return None

    def _indexed(self) -> set[str] | None:
        """Return the names of the indexed segments; None if Redis does not answer."""
        try:
            return self._state.indexed_segments.all(self.embedding_set.name)
        except Unavailable:
            return None

    def _note_missing(self, listed: set[str], indexed: set[str] | None) -> None:
        """Note the indexed segments that the store lacks: indexed both before and after the store was listed."""
        if indexed is None:
            return
        lost = indexed - listed - self._replaced - self._mapped.keys()
        missing = frozenset(lost & (self._indexed() or set())) if lost else frozenset()
        for segment in sorted(missing - self._missing):
            _log.error("segment %s of %s is missing from the object store", segment, self.embedding_set.collection)
        self._missing = missing
