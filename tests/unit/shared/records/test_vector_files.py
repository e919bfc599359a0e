"""Files of embeddings that are none: each is refused by name, whatever it holds."""

from pathlib import Path

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
