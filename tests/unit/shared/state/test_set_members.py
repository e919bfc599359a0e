"""Replies as they come over the wire are read as the numbers that they hold, or not at all."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.state.set_members import packed, parse


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def array(items: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def replies(sets: Sequence[Sequence[int]]) -> bytes:
    return b"".join(array([bulk(b"%d" % member) for member in some]) for some in sets) + b"+PONG\r\n"


numbers = st.one_of(st.integers(0, 2**53 - 1), st.integers(0, 120), st.integers(0, 15).map(lambda power: 10**power))


@given(st.lists(st.lists(numbers, max_size=12), max_size=8))
def test_numbers_are_read_in_their_order(sets: list[list[int]]) -> None:
    found = parse(replies(sets), len(sets))
    assert found.ids.tolist() == [member for some in sets for member in some]
    assert found.sizes.tolist() == [len(some) for some in sets]


def test_numbers_of_every_length_are_read() -> None:
    sets = [[int("9" * digits), 10 ** (digits - 1), int("1234567890123456"[:digits])] for digits in range(1, 17)]
    assert parse(replies(sets), len(sets)).ids.tolist() == [member for some in sets for member in some]


def test_an_array_in_an_array_gives_what_stands_before_it_and_what_is_in_it() -> None:
    data = array([bulk(b"77"), array([bulk(b"1"), bulk(b"23")])]) + array([bulk(b"5")]) + b"+PONG\r\n"
    found = parse(data, 3)
    assert (found.ids.tolist(), found.sizes.tolist()) == ([77, 1, 23, 5], [1, 2, 1])


@pytest.mark.parametrize(
    "wrong",
    [
        b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b":5\r\n",
        b"$-1\r\n",
        bulk(b"7"),
        array([bulk(b"-5")]),
        array([bulk(b"abc")]),
        array([bulk(b"12\r\n34")]),
        array([bulk(b"")]),
        array([bulk(b"12345678901234567")]),
        b"",
        array([bulk(b"1")]) + array([bulk(b"2")]),
    ],
)
def test_anything_else_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"array|digits"):
        parse(array([bulk(b"1"), bulk(b"2")]) + wrong + array([bulk(b"3")]) + b"+PONG\r\n", 3)


def test_commands_go_over_the_wire_as_the_protocol_has_them() -> None:
    assert packed([b"b:\r\n1", b"b:22"], 300, {b"b:22"}) == (
        array([bulk(b"SRANDMEMBER"), bulk(b"b:\r\n1"), bulk(b"300")])
        + array([bulk(b"SSCAN"), bulk(b"b:22"), bulk(b"0"), bulk(b"COUNT"), bulk(b"300")])
        + array([bulk(b"PING")])
    )
