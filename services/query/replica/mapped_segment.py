"""A mapped segment: the rows of a segment in a memory-mapped file on local disk."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.query.replica.entry_columns import EntryColumns
from services.query.replica.segment_files import unused_part
from shared.storage import segments
from shared.storage.segments import Entry

_BLOCK = 2**21  # numbers converted to float64 at a time: 16 MB
_KEPT_FROM = 4096  # rows from which the lengths are kept in a file: reading them beats reading all embeddings

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
StoredVectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]


class MappedSegment:
    """Immutable rows. Which of them are live is known to the `RowTable`, not to the segment."""

    def __init__(self, path: Path, *, verify: bool = False) -> None:
        """Map the file of the segment that it is named after; `verify` reads it whole to check its columns.

        Raises:
            Invalid: The file is no segment, or is damaged.
        """
        self.path = path
        self.name = path.stem
        self.inode = path.stat().st_ino  # another process may put a new file in its place
        self.rows = segments.unpack(pa.memory_map(str(path)).read_buffer(), verify=verify)
        self.inputs: tuple[str, ...] = segments.inputs_of(self.rows)
        self.origins: npt.NDArray[np.int32] | None = segments.origins_of(self.rows)
        self.ids: Ids = segments.ids_of(self.rows)
        self.vectors: StoredVectors = segments.vectors_of(self.rows)
        self.sizes: npt.NDArray[np.int64] = self.rows.column("size").to_numpy()
        self.added: npt.NDArray[np.float64] = self.rows.column("added").to_numpy()
        labels = self.rows.column("label").fill_null("").dictionary_encode()
        self.labels: list[str] = labels.dictionary.to_pylist()
        self.label_codes: npt.NDArray[np.int32] = labels.indices.to_numpy(zero_copy_only=False)
        self.columns = EntryColumns(self.rows)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def image_ids(self) -> Ids:
        """The ids of the images by their digests, int64 [n]: those of `ids`, unless the rows are windows of images."""
        return segments.image_ids_of(self.rows)

    @cached_property
    def last_added(self) -> float:
        """When the last of the images was added, in seconds since 1970; before all times if there is none."""
        return float(self.added.max()) if len(self) else -np.inf

    def origin(self, row: int) -> str | None:
        """Return the segment that a row was merged from; None if the segment is as it was written first."""
        return None if self.origins is None else self.inputs[int(self.origins[row])]

    def lengths(self) -> tuple[Vectors, Vectors]:
        """Return the norms of the embeddings, which are never 0, and their squares, both float32 [n]."""
        kept = self._lengths_path
        if len(self) >= _KEPT_FROM:
            with suppress(OSError):
                values = np.fromfile(kept, dtype=np.float32)
                if len(values) == 2 * len(self):
                    return values[: len(self)], values[len(self) :]
        norms, squares = _lengths(self.vectors)
        if len(self) >= _KEPT_FROM:
            part = unused_part(kept)  # every process of the service may compute them
            with suppress(OSError):  # without the file, lengths are computed again
                np.concatenate([norms, squares]).tofile(part)
                part.replace(kept)
        return norms, squares

    def remove(self) -> None:
        """Delete the files; the rows can be read for as long as the segment lives."""
        remove_files(self.path)

    def entry(self, row: int) -> Entry:
        """Return a row without its embedding."""
        columns = self.columns
        return Entry(
            id=columns.ids.item(row),
            digest=columns.digest(row),
            name=columns.names[row],
            label=self.label(row),
            size=columns.sizes.item(row),
            media_type=columns.media_types[row],
            width=columns.widths.item(row),
            height=columns.heights.item(row),
            added=columns.added.item(row),
            flags=columns.flags(row),
            document=columns.document(row),
        )

    def label(self, row: int) -> str | None:
        """Return the label of a row, None if it has none."""
        return self.labels[self.label_codes.item(row)] or None

    @property
    def _lengths_path(self) -> Path:
        return _lengths_path(self.path)


def remove_files(path: Path) -> None:
    """Delete a segment's file and what was derived from it."""
    path.unlink(missing_ok=True)
    _lengths_path(path).unlink(missing_ok=True)


def _lengths_path(path: Path) -> Path:
    return path.with_suffix(".lengths")


def _lengths(vectors: StoredVectors) -> tuple[Vectors, Vectors]:
    # In float64, since cosine and distance are differences of nearly equal numbers where it matters most.
    squares = np.empty(len(vectors), dtype=np.float64)
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        np.einsum("ij,ij->i", block, block, out=squares[start : start + step])
    return np.maximum(np.sqrt(squares), 1e-30).astype(np.float32), squares.astype(np.float32)
