"""Ids and sizes in arrays, against Python's sets and dictionaries."""

import random

import numpy as np
import pytest

from shared.verification import compact_sets
from shared.verification.compact_sets import HeldImages, OriginalSizes, digest_array, hexadecimal


@pytest.mark.parametrize("seed", range(5))
def test_ids_are_held_as_a_set_holds_them(seed: int) -> None:
    chance = random.Random(seed)
    held, expected = HeldImages(), set[int]()
    for _ in range(40):
        some = [chance.randrange(400) for _ in range(chance.choice([0, 1, 3, 50]))]
        held.add(np.array(some, dtype=np.int64))
        expected.update(some)
        assert len(held) == len(expected)
        assert held.have(np.arange(400)).tolist() == [number in expected for number in range(400)]


def digests(count: int) -> list[bytes]:
    """Digests of which some differ in their last bytes alone, and some end with zeros."""
    rng = np.random.default_rng(0)
    found = [rng.bytes(32) for _ in range(count)]
    return [*found, *(some[:30] + bytes(2) for some in found), bytes(32), bytes(31) + b"\1", b"\1" + bytes(31)]


@pytest.mark.parametrize("at_once", [1, 7, 100_000])
def test_sizes_are_kept_as_a_dictionary_keeps_them(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_sets, "_AT_ONCE", at_once)
    known = digests(20)
    chance, sizes, expected = random.Random(1), OriginalSizes(), dict[bytes, int]()
    assert (len(sizes), sizes.sizes_of(digest_array(known)).tolist()) == (0, [-1] * len(known))
    for _ in range(12):
        some = [(chance.choice(known[::2]), chance.randrange(100)) for _ in range(5)]
        sizes.add_each(some)
        expected.update(some)
        assert sizes.sizes_of(digest_array(known)).tolist() == [expected.get(digest, -1) for digest in known]
    assert len(sizes) == len(expected)
    assert hexadecimal(sizes.digests) == sorted(digest.hex() for digest in expected)
    assert sizes.sizes.tolist() == [expected[digest] for digest in sorted(expected)]
    assert [digest in sizes for digest in known] == [digest in expected for digest in known]


def test_digests_are_text_as_they_were() -> None:
    known = digests(5)
    assert hexadecimal(digest_array(known)) == [digest.hex() for digest in known]
    assert hexadecimal(digest_array(known)[::2]) == [digest.hex() for digest in known[::2]]
    assert hexadecimal(digest_array([])) == []
