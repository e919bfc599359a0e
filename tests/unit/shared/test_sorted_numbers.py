"""Numbers are looked up among ascending ones, as a plain search finds them."""

import numpy as np
import pytest

from shared.sorted_numbers import places_among


@pytest.mark.parametrize("held", [[], [7], [-3, 0, 2, 5, 9, 11]])
def test_each_number_is_found_where_it_stands(held: list[int]) -> None:
    wanted = np.array([[-4, -3, 0], [1, 2, 7], [9, 11, 12]])
    found = places_among(np.array(held, dtype=np.int64), wanted)
    assert found.tolist() == [[held.index(one) if one in held else -1 for one in row] for row in wanted.tolist()]


def test_words_are_found_too_and_nothing_is_found_of_nothing() -> None:
    held = np.array([b"ab", b"b", b"cc"])
    assert places_among(held, np.array([b"cc", b"a", b"ab"])).tolist() == [2, -1, 0]
    assert places_among(held, held[:0]).tolist() == []
