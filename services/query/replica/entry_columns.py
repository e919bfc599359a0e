"""The columns of a segment that hits are described by, read as bytes: a row costs no object of Arrow."""

import numpy as np
import pyarrow as pa

from shared.storage import documents
from shared.storage.documents import DocumentPage
from shared.storage.segments import DIGEST_BYTES, digest_bytes_of


class TextColumn:
    """A column of texts, which lie one behind the other."""

    def __init__(self, column: pa.Array) -> None:
        _, ends, text = column.buffers()
        self._ends = np.frombuffer(ends or bytes(4 * (column.offset + 1)), np.int32)[column.offset :]
        self._text = memoryview(text or b"")

    def __getitem__(self, row: int) -> str:
        return str(self._text[self._ends.item(row) : self._ends.item(row + 1)], "utf-8")


class EntryColumns:
    """What segments hold of their rows beside embeddings and labels."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.ids, self.sizes, self.widths, self.heights, self.added = (
            rows.column(name).to_numpy() for name in ("id", "size", "width", "height", "added")
        )
        self.names, self.media_types = TextColumn(rows.column("name")), TextColumn(rows.column("media_type"))
        self._digests = digest_bytes_of(rows)
        self._flags, self._documents = _optional(rows, "flags"), _optional(rows, "document")

    def digest(self, row: int) -> str:
        """Return the digest of the original, hexadecimal."""
        return self._digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES].hex()

    def flags(self, row: int) -> tuple[str, ...]:
        """Return what is wrong with an image."""
        return () if self._flags is None else tuple(self._flags[row].split())

    def document(self, row: int) -> DocumentPage | None:
        """Return which page an image is, None if it is no page of several."""
        return None if self._documents is None else documents.unpacked(self._documents[row])


def _optional(rows: pa.RecordBatch, name: str) -> TextColumn | None:
    """Return a column that few segments have."""
    return TextColumn(rows.column(name)) if name in rows.schema.names else None
