"""How fast images were embedded follows from the times at which they were added."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.query.replica.embedding_rate import images_per_second
from services.query.replica.mapped_segment import MappedSegment
from services.query.replica.row_table import RowTable
from shared.storage import segments
from tests.support import rows


def rate(folder: Path, times: list[float]) -> float:
    """Return the rate of batches of ten images that were added at these times, in seconds."""
    table, mapped = RowTable(), []
    for place, time in enumerate(times):
        entries = [replace(rows.entry(10 * place + number), added=1e9 + time) for number in range(10)]
        path = folder / f"{place}.arrow"
        vectors = np.ones((10, 4), dtype=np.float32)
        path.write_bytes(segments.pack(entries, vectors, collection="art", model="lite", version=1))
        mapped.append(MappedSegment(path))
    table.swap(mapped)
    return images_per_second(table.view)


def test_it_is_that_of_the_times_when_images_came(tmp_path: Path) -> None:
    assert rate(tmp_path, [0, 2, 4, 6]) == pytest.approx(5)
    assert rate(tmp_path, [6, 0, 4, 2]) == pytest.approx(5)  # segments come in any order
    assert rate(tmp_path, [0, 2, 4, 3600, 3602]) == pytest.approx(5)  # nothing came for an hour


def test_it_is_not_known_of_few_images(tmp_path: Path) -> None:
    assert rate(tmp_path, []) == 0
    assert rate(tmp_path, [0]) == 0
    assert rate(tmp_path, [0, 0.2]) == 0
    assert rate(tmp_path, [0, 60, 120]) == 0
