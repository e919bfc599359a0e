"""Files of embeddings: what they say of images is taken or refused by its row, and what is no such file by its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import Invalid
from shared.records.vector_files import read_embeddings


def _claiming(shape: tuple[int, ...]) -> bytes:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUM", b"PK\x03\x04", b"some text", _claiming((2**40, 2**20)), _claiming((2**70, 2))]
)
def test_what_is_no_numpy_file_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(data)
    (tmp_path / "rows.csv").write_text("filename\na.jpg\n")
    with pytest.raises(Invalid, match=r"v\.npy is no NumPy file"):
        read_embeddings(tmp_path / "v.npy", tmp_path / "rows.csv")


def test_a_renamed_archive_of_arrays_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=np.ones((1, 2)))
    (tmp_path / "v.npz").rename(tmp_path / "v.npy")
    (tmp_path / "rows.csv").write_text("filename\na.jpg\n")
    with pytest.raises(Invalid, match=r"v\.npy is no NumPy file"):
        read_embeddings(tmp_path / "v.npy", tmp_path / "rows.csv")


def test_a_column_of_plain_numbers_is_no_column_of_embeddings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"filename": ["a.jpg"], "vector": [1.0]}), tmp_path / "v.parquet")
    with pytest.raises(Invalid, match="holds double, expected lists"):
        read_embeddings(tmp_path / "v.parquet")


def sides(folder: Path, width: Any, height: Any) -> tuple[int, int]:
    """Return the sides that are read of an image whose row says these."""
    row = {"filename": "a.jpg", "pixel_width": width, "pixel_height": height, "vector": [1.0, 0.0]}
    pq.write_table(pa.Table.from_pylist([row]), folder / "made.parquet")
    (image,) = read_embeddings(folder / "made.parquet").images
    return image.width, image.height


def test_both_sides_of_an_image_are_taken_or_none(tmp_path: Path) -> None:
    assert sides(tmp_path, 640, 480) == (640, 480)
    assert sides(tmp_path, "640", "480") == (640, 480)
    for width, height in ((100, None), (None, 100), (100, 0), (0, 100), ("", "100"), (None, None)):
        assert sides(tmp_path, width, height) == (0, 0)


@pytest.mark.parametrize(
    ("width", "height"), [(-1, 480), (640, -480), (2**31, 480), ("wide", "high"), (float("inf"), 2.0)]
)
def test_a_side_that_no_picture_has_is_refused_with_its_row(tmp_path: Path, width: Any, height: Any) -> None:
    with pytest.raises(Invalid, match="row 1"):
        sides(tmp_path, width, height)
