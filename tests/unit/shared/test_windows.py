"""The windows of a picture: how many, where, and what they cover."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.windows import LEAST_SIDE, MOST_WINDOWS, box_of, is_long, windows, written

SIDES = st.integers(0, 20_000)


@given(SIDES, SIDES)
@example(20_000, 1_000)
@example(1, 20_000)
@example(100, 0)
@example(0, 0)
def test_windows_are_few_lie_within_the_picture_and_are_never_too_small(width: int, height: int) -> None:
    found = windows(width, height)
    assert len(found) <= MOST_WINDOWS
    for left, top, right, bottom in found:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert min(right - left, bottom - top) >= LEAST_SIDE


@given(SIDES, SIDES)
def test_the_windows_of_a_turned_picture_are_its_windows_turned(width: int, height: int) -> None:
    turned = {(top, left, bottom, right) for left, top, right, bottom in windows(height, width)}
    assert set(windows(width, height)) == turned


def test_an_ordinary_picture_has_windows_of_three_sizes_from_edge_to_edge() -> None:
    found = windows(900, 600)
    sizes = [(right - left, bottom - top) for left, top, right, bottom in found]
    assert [sizes.count(size) for size in ((630, 420), (450, 300), (300, 200))] == [4, 9, 25]
    assert len(found) == len(set(found)) == MOST_WINDOWS
    for corner in ((0, 0, 300, 200), (600, 400, 900, 600), (0, 400, 300, 600), (225, 150, 675, 450)):
        assert corner in found


@pytest.mark.parametrize("longer", [1_300, 2_000, 4_000, 9_000])
def test_squares_see_all_of_a_long_picture(longer: int) -> None:
    found = windows(longer, 600)
    assert all(right - left == bottom - top for left, top, right, bottom in found)
    whole = [(left, right) for left, top, right, bottom in found if bottom - top == 600]
    assert (whole[0][0], whole[-1][1]) == (0, longer)
    assert all(after[0] - before[0] <= 300 for before, after in itertools.pairwise(whole))
    assert any(bottom - top == 300 for _, top, _, bottom in found)


def test_what_is_too_small_for_a_size_of_windows_has_none_of_it() -> None:
    assert len(windows(90, 90)) == 4 + 9
    assert windows(44, 44) == []
    assert windows(1_000, 31) == []
    assert windows(0, 1_000) == []
    assert not any(is_long(*sides) for sides in ((1_000, 31), (0, 1_000), (1_000, 0), (0, 0)))


@given(SIDES, SIDES)
def test_the_name_of_a_row_says_its_window(width: int, height: int) -> None:
    for left, top, right, bottom in windows(width, height):
        assert box_of(written((left, top, right, bottom))) == (left, top, right - left, bottom - top)


@pytest.mark.parametrize("name", ["", "1,2,3", "a,b,c,d", "art.png", "1,2,3,4,5"])
def test_another_name_names_no_window(name: str) -> None:
    with pytest.raises(Invalid, match="names no window"):
        box_of(name)
