"""Groups are cliques that hold every pair."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from shared.duplicates.grouping import groups_of, missing_pairs
from shared.duplicates.pairs import Pair, ordered


def pair(a: int, b: int, agreement: float = 0.9) -> Pair:
    return Pair(a, b, agreement, 20, 0.9, ("resized",))


def test_a_picture_and_two_crops_that_share_nothing_make_two_groups_and_no_chain() -> None:
    assert groups_of([pair(1, 2, 0.9), pair(2, 3, 0.8)]) == [[1, 2], [2, 3]]


def test_images_that_are_all_verified_make_one_group() -> None:
    assert groups_of([pair(1, 2), pair(1, 3), pair(2, 3), pair(7, 9)]) == [[1, 2, 3], [7, 9]]


@given(st.sets(st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda ids: ids[0] < ids[1]), max_size=25))
def test_every_pair_is_in_a_group_and_every_pair_of_a_group_is_verified(ids: set[tuple[int, int]]) -> None:
    groups = groups_of([pair(a, b, (a * b % 7) / 10) for a, b in sorted(ids)])
    held = {ordered(a, b) for group in groups for a, b in combinations(group, 2)}
    assert held == ids
    assert len({tuple(group) for group in groups}) == len(groups)


def test_images_with_a_duplicate_in_common_are_compared_too_unless_they_were() -> None:
    pairs = [pair(1, 2), pair(2, 3), pair(2, 4)]
    assert missing_pairs(pairs, {(1, 2), (2, 3), (2, 4), (3, 4)}, most=10) == [(1, 3), (1, 4)]
    assert missing_pairs(pairs, set(), most=2) == [(1, 3)]
