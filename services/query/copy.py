"""The local copy of one collection: its packs, which rows count, and the index generation in use."""

import logging
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.query.packs import Ids, Pack, write_merged
from shared import layout
from shared.catalog import Catalog, Collection
from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.generations import Generation

_log = logging.getLogger(__name__)

_FAN_IN = 16  # packs of like size that are merged into one: each row is rewritten log16(rows / 32) times
_SMALLEST = 32  # rows
_FETCHES = 8


@dataclass(frozen=True)
class Counts:
    """Sizes of a collection: images, images of each class (unlabelled ones are in none), bytes of the originals."""

    images: int
    classes: Counter[str]
    bytes: int


class CollectionCopy:
    """Follows one collection. Changes come from one thread at a time; `packs` is read by many without a lock."""

    def __init__(self, collection: Collection, *, catalog: Catalog, folder: Path) -> None:
        self.collection = collection
        self.packs: tuple[Pack, ...] = ()
        self.generation: Generation | None = None
        self._catalog = catalog
        self.folder = folder / f"{collection.name}-{collection.tag}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._have: set[str] = set()
        self._dead: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._version = 0
        self._counts: tuple[int, Counts] | None = None  # of a version

    # Following

    def synchronise(self) -> None:
        """Bring the copy in step with the object store's listing."""
        wanted = set(self._catalog.segments(self.collection.name))
        dead = self._catalog.dead_rows(self.collection.name)
        with self._lock:
            self._bury(dead - self._dead)  # first, so that a row which is dead is so when its segment comes
            if not self.packs:
                self._open_files(wanted)
            if self._have - wanted:  # the store merged or lost segments: start anew
                self.packs, self._have = (), set()
                self._open_files(wanted)
            fresh = sorted(wanted - self._have)
            with ThreadPoolExecutor(_FETCHES) as pool:
                for pack in pool.map(self._fetch, fresh):
                    if pack is not None:
                        self._add(pack)
            self._merge()
        self.load_generation()

    def add_segment(self, segment: str) -> None:
        """Fetch a segment that was announced, unless it is here."""
        with self._lock:
            if segment not in self._have:
                pack = self._fetch(segment)
                if pack is not None:
                    self._add(pack)
                    self._merge()

    def bury(self, segment: str, image: int) -> None:
        """Mark a row as deleted."""
        with self._lock:
            self._bury({(segment, image)} - self._dead)

    def load_generation(self) -> None:
        """Load the index generation in use."""
        current = self._catalog.current_index(self.collection.name)
        if current is None:
            self.generation = None
        elif self.generation is None or self.generation.number != current.generation:
            try:
                self.generation = Generation.load(self._catalog.store, self.collection, current.generation)
            except (NotFound, Invalid) as error:
                _log.error("%s: generation %d is not usable: %s", self.collection.name, current.generation, error)
                self.generation = None

    def remove(self) -> None:
        """Forget the collection and remove its files."""
        with self._lock:
            self.packs = ()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _open_files(self, wanted: set[str]) -> None:
        """Map the files of an earlier run, the largest first, so that a merged one wins over what it was made of."""
        for path in self.folder.glob("*.part"):
            path.unlink()
        packs = []
        for path in self.folder.glob("*.arrow"):
            try:
                packs.append(Pack(path, path.stem))
            except (Invalid, OSError, KeyError) as error:
                _log.warning("%s is fetched again: %s", path.name, error)
                path.unlink()
        for pack in sorted(packs, key=lambda pack: (-len(pack.segments), pack.path.name)):
            if wanted.issuperset(pack.segments) and self._have.isdisjoint(pack.segments):
                self._add(pack)
            else:
                pack.path.unlink()

    def _fetch(self, segment: str) -> Pack | None:
        try:
            data = self._catalog.store.get(layout.segment_key(self.collection.name, segment))
        except ObjectNotFound:
            return None  # announced, and dropped since
        path = self.folder / f"{segment}.arrow"
        part = path.with_suffix(".part")
        part.write_bytes(data)
        part.replace(path)
        try:
            return Pack(path, segment)
        except Invalid as error:
            _log.error("segment %s of %s is not usable: %s", segment, self.collection.name, error)
            return None

    def _add(self, pack: Pack, *, instead_of: Sequence[Pack] = ()) -> None:
        """Publish a pack whose marks are right, in one step."""
        ours = set(pack.segments)
        self._have |= ours
        for segment, image in self._dead:
            if segment in ours and (row := pack.row_of(segment, image)) is not None:
                pack.dead[row] = True
        others = tuple(other for other in self.packs if other not in instead_of)
        twice = [other.ids[other.locate(pack.ids)[1]] for other in others]
        values, counts = np.unique(pack.ids[~pack.dead], return_counts=True)
        packs = (*others, pack)
        _resolve(packs, np.unique(np.concatenate([*twice, values[counts > 1]])))
        self.packs = packs
        self._version += 1

    def _bury(self, rows: Iterable[tuple[str, int]]) -> None:
        images = []
        for segment, image in rows:
            self._dead.add((segment, image))
            for pack in self.packs:
                row = pack.row_of(segment, image)
                if row is not None:
                    pack.dead[row] = True
                    pack.marks_changed()
                    images.append(image)
        _resolve(self.packs, np.array(sorted(set(images)), dtype=np.int64))
        self._version += 1

    def _merge(self) -> None:
        while True:
            tiers: defaultdict[int, list[Pack]] = defaultdict(list)
            for pack in self.packs:
                tiers[int(np.log(max(len(pack), _SMALLEST) / _SMALLEST) / np.log(_FAN_IN))].append(pack)
            group = next((packs for packs in tiers.values() if len(packs) >= _FAN_IN), None)
            if group is None:
                return
            path = self.folder / f"merged-{group[0].segments[0]}-{sum(len(pack.segments) for pack in group)}.arrow"
            part = path.with_suffix(".part")
            write_merged(part, group)
            part.replace(path)
            self._add(Pack(path, path.stem), instead_of=group)
            for pack in group:
                pack.path.unlink()

    # Reading

    def counts(self) -> Counts:
        """Return the sizes of the collection as they are now."""
        cached, version = self._counts, self._version
        if cached is not None and cached[0] == version:
            return cached[1]
        classes: Counter[str] = Counter()
        images = size = 0
        for pack in self.packs:
            live = pack.live
            images += int(live.sum())
            size += int(pack.rows.column("size").to_numpy()[live].sum())
            counts = np.bincount(pack.label_codes[live], minlength=len(pack.labels)).tolist()
            classes.update({label: count for label, count in zip(pack.labels, counts, strict=True) if label and count})
        self._counts = (version, Counts(images, classes, size))
        return self._counts[1]

    def find(self, image: int) -> tuple[Pack, int]:
        """Return pack and row of an image.

        Raises:
            NotFound: The collection has no such image.
        """
        for pack in self.packs:
            _, rows = pack.locate(np.array([image], dtype=np.int64))
            if len(rows):
                return pack, int(rows[0])
        raise NotFound(f"the collection {self.collection.name!r} has no image {image}")

    def latest(self, *, limit: int, offset: int, label: str) -> tuple[int, Iterator[tuple[Pack, int]]]:
        """Return how many images there are (of a class, if `label` names one), and a page of them, the latest first."""
        packs = self.packs
        rows = [np.flatnonzero(pack.live & _of_class(pack, label)) for pack in packs]
        added = np.concatenate([pack.added[some] for pack, some in zip(packs, rows, strict=True)] or [np.empty(0)])
        origin = np.repeat(np.arange(len(packs)), [len(some) for some in rows])
        flat = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
        ids = np.concatenate([pack.ids[some] for pack, some in zip(packs, rows, strict=True)] or [flat])
        order = np.lexsort((ids, -added))[offset : offset + limit]
        return len(added), ((packs[int(origin[place])], int(flat[place])) for place in order)


def _of_class(pack: Pack, label: str) -> npt.NDArray[np.bool_]:
    if not label:
        return np.ones(len(pack), dtype=np.bool_)
    codes = [code for code, name in enumerate(pack.labels) if name == label]
    return np.isin(pack.label_codes, codes)


def _resolve(packs: Sequence[Pack], ids: Ids) -> None:
    """Let exactly one row of each of these images count: the first that is not dead."""
    taken: set[int] = set()
    for pack in packs if len(ids) else ():
        rows = pack.rows_with(ids)
        for row in rows.tolist():
            image = int(pack.ids[row])
            pack.shadowed[row] = image in taken
            if not pack.dead[row]:
                taken.add(image)
        if len(rows):
            pack.marks_changed()
