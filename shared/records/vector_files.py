"""Embeddings as files: Parquet with a row for each image, and NumPy arrays; and what such files must keep to.

A NumPy file has the embeddings alone: its rows come in the order of the images' ids.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import Invalid
from shared.records.importing import TECHNICAL
from shared.records.tables import read_table, split
from shared.storage.documents import DocumentPage
from shared.storage.layout import is_digest

Vectors = npt.NDArray[np.float32]

_GROUP: Final = 5000  # rows that are written at a time
_LENGTH: Final = 1e-2  # by which the length of a normalised embedding may be off: float16 is coarse
_MOST_PIXELS: Final = 2**31 - 1  # of a side, as a segment stores it
_INTEGERS: Final = frozenset({"id", "bytes", "pixel_width", "pixel_height"})


@dataclass(frozen=True)
class EmbeddedImage:
    """What a file says of an image beside its embedding; what it does not say is empty."""

    name: str = ""
    digest: str = ""
    size: int = 0
    media_type: str = ""
    width: int = 0
    height: int = 0
    added: float = 0.0
    labels: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    document: DocumentPage | None = None


@dataclass(frozen=True, eq=False)
class EmbeddingFile:
    """Images with their embeddings, float32 [n, dim], and the model that the file names, if it does.

    `normalised`: all embeddings have length 1, about.
    """

    images: Sequence[EmbeddedImage]
    vectors: Vectors
    model: str = ""
    model_version: int = 0

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return int(self.vectors.shape[1])

    @property
    def normalised(self) -> bool:
        """Whether all embeddings have length 1."""
        return bool((np.abs(np.linalg.norm(self.vectors, axis=1) - 1) <= _LENGTH).all())


# Writing


def schema(model: str, version: int, dim: int) -> pa.Schema:
    """Return the columns of a Parquet file of embeddings, whose metadata name the model."""
    return pa.schema(
        [
            *((name, pa.int64() if name in _INTEGERS else pa.string()) for name in TECHNICAL),
            ("labels", pa.list_(pa.string())),
            ("flags", pa.list_(pa.string())),
            ("document", pa.string()),
            ("page", pa.int64()),
            ("pages", pa.int64()),
            ("vector", pa.list_(pa.float32())),
        ],
        metadata={"model": model, "model_version": str(version), "dim": str(dim)},
    )


def parquet_parts(fields: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield a Parquet file of rows."""
    with tempfile.TemporaryFile() as file:
        with pq.ParquetWriter(file, fields) as writer:
            some: list[Mapping[str, Any]] = []
            for row in rows:
                some.append(row)
                if len(some) == _GROUP:
                    writer.write_table(pa.Table.from_pylist(some, fields))
                    some = []
            writer.write_table(pa.Table.from_pylist(some, fields))
        yield from _parts(file)


def npy_parts(rows: Iterable[tuple[int, Vectors]], image_ids: Sequence[int], dim: int) -> Iterator[bytes]:
    """Yield a NumPy file with the embeddings of images, given with their ids, in the order of the ids.

    Raises:
        Invalid: One of the images has none.
    """
    places = {image_id: place for place, image_id in enumerate(sorted(image_ids))}
    with tempfile.TemporaryFile() as file:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (len(places), dim)}
        )
        file.write(header.getvalue())
        for image_id, vector in rows:
            file.seek(len(header.getvalue()) + 4 * dim * places.pop(image_id))
            file.write(vector.astype("<f4").tobytes())
        if places:
            raise Invalid(f"{len(places)} images have no embedding that can be read: see `artseek verify`")
        yield from _parts(file)


def _parts(file: Any) -> Iterator[bytes]:
    file.seek(0)
    while part := file.read(2**20):
        yield part


# Reading


def read_embeddings(path: Path, rows: Path | None = None) -> EmbeddingFile:
    """Return the embeddings of a Parquet file, or of a NumPy file with the table of its images.

    Args:
        path: The file, .parquet or .npy.
        rows: Of a NumPy file, what its rows are: CSV, JSON lines or Parquet, as an export writes them. With a column
            `id`, the rows of the NumPy file come in the order of the ids, else in that of the table.

    Raises:
        Invalid: They do not fit; the message says where.
    """
    if path.suffix.lower() == ".npy":
        if rows is None:
            raise Invalid(f"{path.name} has embeddings alone: name the table of its images by --rows")
        try:
            with path.open("rb") as file:
                vectors = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, OSError, OverflowError, MemoryError) as error:  # it may claim any shape
            raise Invalid(f"{path.name} is no NumPy file: {error}") from None
        return _checked(EmbeddingFile(_images(_in_order(_read_rows(rows))), _matrix(path.name, vectors)))
    if rows is not None:
        raise Invalid(f"--rows goes with a NumPy file; {path.name} says itself what its rows are")
    table = _read_parquet(path)
    if "vector" not in table.column_names:
        raise Invalid(f"{path.name} has no column `vector`, but {', '.join(table.column_names[:10]) or 'none'}")
    kind = table.column("vector").type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise Invalid(f"the column `vector` of {path.name} holds {kind}, expected lists of numbers")
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    lengths = {len(vector) for vector in table.column("vector") if vector.is_valid}
    if len(lengths) != 1 or table.column("vector").null_count:
        raise Invalid(f"the embeddings of {path.name} have {sorted(lengths)} numbers, expected as many in each row")
    flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = _matrix(path.name, flat.reshape(len(table), lengths.pop()))
    version = metadata.get("model_version", "")
    images = _images(table.drop_columns(["vector"]).to_pylist())
    return _checked(
        EmbeddingFile(images, vectors, metadata.get("model", ""), int(version) if version.isdecimal() else 0)
    )


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"{path.name} is no Parquet file: {error}") from None


def _read_rows(path: Path) -> list[Mapping[str, Any]]:
    if path.suffix.lower() == ".parquet":
        found: list[Mapping[str, Any]] = _read_parquet(path).to_pylist()
        return found
    return [row.cells for row in read_table(path.read_bytes()).rows]


def _in_order(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    try:
        return sorted(rows, key=lambda row: int(row["id"]))
    except (KeyError, TypeError, ValueError):
        return rows


def _matrix(name: str, vectors: npt.NDArray[Any]) -> Vectors:
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        raise Invalid(f"{name} holds {vectors.dtype} of shape {vectors.shape}, expected numbers [images, dim]")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _images(rows: Iterable[Mapping[str, Any]]) -> list[EmbeddedImage]:
    return [_image(number, row) for number, row in enumerate(rows, 1)]


def _image(number: int, row: Mapping[str, Any]) -> EmbeddedImage:
    digest, name = _text(row.get("digest")), _text(row.get("filename"))
    if digest and not is_digest(digest):
        raise Invalid(f"row {number} has the digest {digest[:80]!r}, expected a SHA-256 in hexadecimal")
    if not digest and not name:
        raise Invalid(f"row {number} has neither `digest` nor `filename`, so that nobody could tell its image")
    labels = row.get("labels", row.get("label"))
    try:
        width, height = _sides(row)
        return EmbeddedImage(
            name=name,
            digest=digest,
            size=int(row.get("bytes") or 0),
            media_type=_text(row.get("media_type")),
            width=width,
            height=height,
            added=datetime.fromisoformat(added).timestamp() if (added := _text(row.get("added"))) else 0.0,
            labels=tuple(str(label) for label in split(labels)),
            flags=tuple(str(flag) for flag in split(row.get("flags"))),
            document=_document(row),
        )
    except (ValueError, OverflowError) as error:
        raise Invalid(f"row {number}: {error}") from None


def _sides(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of an image; 0 for both unless the row says both, since one alone tells no shape.

    Raises:
        ValueError: One of them is no number of pixels.
    """
    width, height = (int(row.get(name) or 0) for name in ("pixel_width", "pixel_height"))
    if not (0 <= width <= _MOST_PIXELS and 0 <= height <= _MOST_PIXELS):
        raise ValueError(f"pixel_width {width} and pixel_height {height}: expected 0 to {_MOST_PIXELS}")
    return (width, height) if width and height else (0, 0)


def _document(row: Mapping[str, Any]) -> DocumentPage | None:
    """Return which page of a document an image is; None: of none."""
    digest = _text(row.get("document"))
    if not is_digest(digest):
        return None
    return DocumentPage(digest, int(row.get("page") or 1), int(row.get("pages") or 1))


def _text(cell: object) -> str:
    """Return a cell as text; an export puts a quote before what a spreadsheet would take for a formula."""
    parts = split(cell) if isinstance(cell, str) else [] if cell is None else [cell]
    return "|".join(str(part) for part in parts)


def _checked(found: EmbeddingFile) -> EmbeddingFile:
    """Return the embeddings if each is of an image, and none is broken."""
    if len(found.images) != len(found.vectors):
        raise Invalid(f"there are {len(found.vectors):,} embeddings, but {len(found.images):,} images")
    for number, vector in enumerate(found.vectors, 1):
        if not np.isfinite(vector).all() or not vector.any():
            raise Invalid(f"the embedding of row {number} is zero, or holds NaN or infinity")
    return found
