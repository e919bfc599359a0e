"""A pack: rows of one or several segments in one memory-mapped Arrow file on local disk."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared import segments
from shared.segments import Entry

_SEGMENTS = b"segments"

Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Pack:
    """Immutable rows, and two marks on them: dead (deleted for good) and shadowed (another row has the same image).

    Readers may use a pack while marks change: a mark is one byte, and an answer may be as old as its request.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Map the file; `name` is its segment where the file does not list several.

        Raises:
            Invalid: The file is no segment.
        """
        self.path = path
        self.rows = segments.unpack(pa.memory_map(str(path)).read_buffer())
        listed = (self.rows.schema.metadata or {}).get(_SEGMENTS)
        self.segments: tuple[str, ...] = tuple(json.loads(listed)) if listed else (name,)
        self.ids: Ids = segments.ids_of(self.rows)
        self.vectors: Vectors = segments.vectors_of(self.rows)
        count = len(self.ids)
        self._segment_of: npt.NDArray[np.int32] = (
            self.rows.column("segment").to_numpy() if listed else np.zeros(count, dtype=np.int32)
        )
        # In float64, since cosine and distance are differences of nearly equal numbers where it matters most.
        squares = np.einsum("ij,ij->i", self.vectors, self.vectors, dtype=np.float64)
        self.squares: npt.NDArray[np.float32] = squares.astype(np.float32)
        self.norms: npt.NDArray[np.float32] = np.maximum(np.sqrt(squares), 1e-30).astype(np.float32)
        labels = self.rows.column("label").fill_null("").dictionary_encode()
        self.labels: list[str] = labels.dictionary.to_pylist()
        self.label_codes: npt.NDArray[np.int32] = labels.indices.to_numpy(zero_copy_only=False)
        self.added: npt.NDArray[np.float64] = self.rows.column("added").to_numpy()
        self.dead: Bools = np.zeros(count, dtype=np.bool_)
        self.shadowed: Bools = np.zeros(count, dtype=np.bool_)
        self._marks = 0  # how often the marks changed
        self._index: tuple[int, Ids, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def live(self) -> Bools:
        """Which rows count, bool [n]."""
        marks: Bools = ~(self.dead | self.shadowed)
        return marks

    def marks_changed(self) -> None:
        """Say that what was derived from the marks no longer holds."""
        self._marks += 1

    def locate(self, ids: Ids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return which of `ids` have a live row here, as positions in `ids`, and these rows; both int64 [found]."""
        index, marks = self._index, self._marks
        if index is None or index[0] != marks:
            live = np.flatnonzero(self.live)
            order = np.argsort(self.ids[live], kind="stable")
            index = self._index = (marks, self.ids[live][order], live[order])
        _, known, rows = index
        if not len(known) or not len(ids):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        found = np.flatnonzero(known[places] == ids)
        return found, rows[places[found]]

    def rows_with(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Return the rows, dead ones too, that hold one of `ids`."""
        return np.flatnonzero(np.isin(self.ids, ids))

    def row_of(self, segment: str, image: int) -> int | None:
        """Return the row that came with this segment and holds this image."""
        if segment not in self.segments:
            return None
        rows = np.flatnonzero((self.ids == image) & (self._segment_of == self.segments.index(segment)))
        return int(rows[0]) if len(rows) else None

    def entry(self, row: int) -> Entry:
        """Return a row without its embedding."""
        return segments.entry_of(self.rows, row)

    def label(self, row: int) -> str:
        """Return a row's label, empty if it has none."""
        return self.labels[int(self.label_codes[row])]


def write_merged(path: Path, packs: Sequence[Pack]) -> None:
    """Write the rows of several packs that are not dead as one file; the caller renames it into place."""
    names = [name for pack in packs for name in pack.segments]
    parts = []
    offset = 0
    for pack in packs:
        kept = np.flatnonzero(~pack.dead)
        origin = np.zeros(len(pack), np.int32) if len(pack.segments) == 1 else pack.rows.column("segment").to_numpy()
        plain = pa.RecordBatch.from_arrays(
            [pack.rows.column(name) for name in segments.schema(1).names], names=segments.schema(1).names
        )
        parts.append(
            pa.Table.from_batches([plain.take(pa.array(kept))]).append_column(
                "segment", pa.array(origin[kept] + offset)
            )
        )
        offset += len(pack.segments)
    metadata = {**(packs[0].rows.schema.metadata or {}), _SEGMENTS: json.dumps(names).encode()}
    table = pa.concat_tables(parts).replace_schema_metadata(metadata).combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))
