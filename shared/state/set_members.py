"""The members of many sets in one round trip, as numbers and in the order of the sets; and changes of many sets.

The last entries of streams may be asked for in the same round trip, behind the sets.

redis-py makes an object of each member and of each command, several milliseconds for some thousand. To a single server,
commands are therefore written as they go over the wire, and all replies are turned into numbers at once. After an
unexpected reply (an error, a lost connection, a member that is no id), redis-py tries again and reports what is wrong.
"""

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from redis.client import NEVER_DECODE

from shared.state.connection import Client

_SETS = 512  # commands sent at a time: their replies may be large
_PART = 2**16  # bytes read at a time, at first
_CHANGES = 4096  # commands sent at a time: enough to hide the round trip, few enough to stay some 100 kB
_PING, _END = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
_LAST = b"$1\r\n+\r\n$1\r\n-\r\n$5\r\nCOUNT\r\n$1\r\n1\r\n"
NO_ENTRY = "0-0"  # the id of the last entry of a stream that has none
_DIGITS = 16  # of an id of 53 bits, at most

Ids = npt.NDArray[np.int64]

# For a number of n digits: which bytes of the 16 before its end are digits, as two words, and of a byte the low half.
_KEPT = np.array(
    [[0 if place < _DIGITS - digits else 0x0F for place in range(_DIGITS)] for digits in range(_DIGITS + 1)],
    dtype=np.uint8,
).view("<u8")
_STEPS = [
    (np.uint64(10 * 2**8 + 1), np.uint64(8), np.uint64(0x00FF00FF00FF00FF)),
    (np.uint64(100 * 2**16 + 1), np.uint64(16), np.uint64(0x0000FFFF0000FFFF)),
    (np.uint64(10_000 * 2**32 + 1), np.uint64(32), np.uint64(0x00000000FFFFFFFF)),
]
_EIGHT = np.uint64(10**8)


@dataclass(frozen=True)
class Members:
    """Members of sets: `ids`, int64 [n], those of the first set first, and how many each set gave, int64 [sets].

    `ends` are the ids of the last entries of the streams that were asked for, after the sets were read.
    """

    ids: Ids
    sizes: npt.NDArray[np.int64]
    ends: tuple[str, ...] = ()


def members(
    client: Client, names: Sequence[bytes], *, limit: int, large: Container[bytes] = (), streams: Sequence[str] = ()
) -> Members:
    """Return the members of sets of integers; of one that has more, at least `limit`, and hardly more.

    SRANDMEMBER gives all members of a set that is not larger than its limit, as fast as SMEMBERS does, but takes
    long to choose some of a larger one. SSCAN gives the same ones each time and takes no longer for a larger set, but
    twice as long for a small one: it is used for the sets named in `large`.

    Raises:
        redis.RedisError: As redis-py does.
    """
    starts = range(0, len(names), _SETS) if names else range(1 if streams else 0)
    parts = [
        _members_of(client, names[start : start + _SETS], limit, large, streams if start == starts[-1] else ())
        for start in starts
    ]
    if len(parts) == 1:
        return parts[0]
    none = np.empty(0, dtype=np.int64)
    ids = np.concatenate([none, *(part.ids for part in parts)])
    return Members(ids, np.concatenate([none, *(part.sizes for part in parts)]), parts[-1].ends if parts else ())


def change(client: Client, command: bytes, sets: Iterable[tuple[bytes, Sequence[int]]]) -> None:
    """Send SADD or SREM for each of some sets, by their names, and the ids to put in or take out; both may run twice.

    Raises:
        redis.RedisError: As redis-py does.
    """
    waiting = iter(sets)
    while batch := list(islice(waiting, _CHANGES)):
        if isinstance(client, redis.Redis):
            with suppress(redis.RedisError, OSError):
                replies = _read(client, b"".join([*(_change(command, name, ids) for name, ids in batch), _PING]))
                if replies.count(b"\n:") + replies.startswith(b":") == len(batch):
                    continue
        pipeline = client.pipeline(transaction=False)
        for name, ids in batch:
            pipeline.execute_command(command, name, *ids)
        pipeline.execute()


def _change(command: bytes, name: bytes, ids: Sequence[int]) -> bytes:
    numbers = b"".join([_bulk(b"%d" % image_id) for image_id in ids])
    return b"*%d\r\n%b%b%b" % (len(ids) + 2, _bulk(command), _bulk(name), numbers)


def _members_of(
    client: Client, names: Sequence[bytes], limit: int, large: Container[bytes], streams: Sequence[str]
) -> Members:
    scanned = [place for place, name in enumerate(names) if name in large] if large else []
    if isinstance(client, redis.Redis):
        with suppress(redis.RedisError, OSError, ValueError):
            data = _read(client, packed(names, limit, large, streams))
            # The reply of SSCAN is an array of a cursor and an array: two heads, the first before the cursor alone.
            arrays = len(names) + len(scanned)
            sets, ends = _split(data, arrays, len(streams)) if streams else (data, ())
            if not names:
                return Members(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), ends)
            found = _without(parse(sets, arrays), np.array(scanned, dtype=np.int64) + np.arange(len(scanned)))
            return Members(found.ids, found.sizes, ends)
    pipeline = client.pipeline(transaction=False)
    for name in names:
        command = (b"SSCAN", name, 0, b"COUNT", limit) if name in large else (b"SRANDMEMBER", name, limit)
        pipeline.execute_command(*command, **{NEVER_DECODE: []})
    replies: list[Any] = pipeline.execute()
    for place in scanned:
        replies[place] = replies[place][1]
    flat = [int(member) for reply in replies for member in reply]
    # After the replies, not with them: the nodes of a cluster answer in no order.
    ends = last_entries(client, streams)
    return Members(np.array(flat, dtype=np.int64), np.array([len(reply) for reply in replies], dtype=np.int64), ends)


def last_entries(client: Client, streams: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the last entries of streams; ``0-0`` where there is none."""
    pipeline = client.pipeline(transaction=False)
    for stream in streams:
        pipeline.xrevrange(stream, count=1)
    return tuple(last[0][0].decode() if last else NO_ENTRY for last in pipeline.execute())


def _without(found: Members, sets: npt.NDArray[np.int64]) -> Members:
    """Return members without those of some sets, each of which has one."""
    if not len(sets):
        return found
    starts = np.cumsum(found.sizes) - found.sizes
    return Members(np.delete(found.ids, starts[sets]), np.delete(found.sizes, sets))


def _read(client: Any, commands: bytes) -> bytearray:
    """Send commands, PING the last, and return the replies as they come over the wire."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([commands])
        return _receive(connection._sock)  # noqa: SLF001 -- redis-py has no way to read replies but as objects
    except BaseException:
        connection.disconnect()  # replies that are still to come must not reach another request
        raise
    finally:
        client.connection_pool.release(connection)


def packed(names: Sequence[bytes], limit: int, large: Container[bytes] = (), streams: Sequence[str] = ()) -> bytes:
    """Return the commands that ask for members and for last entries, and PING, as they go over the wire (RESP2)."""
    most = _bulk(b"%d" % limit)
    scanning = _bulk(b"0") + _bulk(b"COUNT") + most
    commands = [
        b"*5\r\n$5\r\nSSCAN\r\n$%d\r\n%b\r\n%b" % (len(name), name, scanning)
        if name in large
        else b"*3\r\n$11\r\nSRANDMEMBER\r\n$%d\r\n%b\r\n%b" % (len(name), name, most)
        for name in names
    ]
    last = [b"*6\r\n$9\r\nXREVRANGE\r\n%b%b" % (_bulk(stream.encode()), _LAST) for stream in streams]
    return b"".join([*commands, *last, _PING])


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _receive(socket: Any) -> bytearray:
    """Return what the server sends up to its answer to PING."""
    data, read = bytearray(_PART), 0
    while True:
        with memoryview(data) as view:
            got = socket.recv_into(view[read:])
        if not got:
            raise ConnectionResetError("the connection was closed")
        read += got
        if data.endswith(_END, 0, read):
            del data[read:]
            return data
        if read == len(data):
            data.extend(bytes(len(data)))


def _split(replies: bytearray, arrays: int, streams: int) -> tuple[bytes, tuple[str, ...]]:
    """Return the replies with the sets, with that to PING behind them, and the ids of the last entries of streams.

    Raises:
        ValueError: The replies are others.
    """
    heads = np.flatnonzero(np.frombuffer(replies, dtype=np.uint8) == ord("*"))
    if len(heads) <= arrays:
        raise ValueError("replies are not those of sets and streams")
    at, ends = int(heads[arrays]), []
    data = bytes(replies)
    sets = data[:at] + _END
    for _ in range(streams):
        entries, at = _value(data, at)
        if not isinstance(entries, list):
            raise ValueError("replies are not those of streams")
        ends.append(entries[0][0].decode() if entries else NO_ENTRY)
    if data[at:] != _END:
        raise ValueError("there is more in the replies than was asked for")
    return sets, tuple(ends)


def _value(data: bytes, at: int) -> tuple[Any, int]:
    """Return the array or string that begins at a place of replies, and the place behind it."""
    end = data.index(b"\r\n", at)
    kind, size = data[at : at + 1], int(data[at + 1 : end])
    end += 2
    if kind == b"$" and size >= 0:
        return data[end : end + size], end + size + 2
    if kind != b"*":
        raise ValueError("a reply is neither an array nor a string")
    items = []
    for _ in range(size):
        item, end = _value(data, end)
        items.append(item)
    return items, end


def parse(replies: bytes | bytearray, arrays: int) -> Members:
    """Return the numbers in replies (RESP2): so many arrays of bulk strings, which may nest, then that to PING.

    Raises:
        ValueError: There is something else in them: an error, or a member that has no 1 to 16 digits.
    """
    text = np.frombuffer(replies, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n"))[:-1]  # without PING's
    starts = np.empty_like(ends)
    starts[1:] = ends[:-1] + 1
    starts[:1] = 0
    kinds = text[starts]
    heads = np.flatnonzero(kinds == ord("*"))
    numbers = np.flatnonzero((kinds >= ord("0")) & (kinds <= ord("9")))
    # Each array has a head, each member a line with its length and one with its digits.
    if len(heads) != arrays or len(heads) + 2 * len(numbers) != len(ends) or not replies.endswith(_END):
        raise ValueError("replies are not arrays of integers")
    sizes = np.diff(np.append(np.searchsorted(numbers, heads), len(numbers)))
    last = ends[numbers] - 1
    digits = last - starts[numbers]
    if not len(numbers):
        return Members(np.empty(0, dtype=np.int64), sizes)
    if digits.max() > _DIGITS:
        raise ValueError(f"a member has {digits.max()} digits, expected at most {_DIGITS}")
    # Every number is read as the 16 bytes up to its end: before a first that is shorter, there are 16 more at least
    # once the replies are put behind some.
    padded = bytes(_DIGITS) + bytes(replies)
    windows: npt.NDArray[Any] = np.ndarray(
        (len(padded) - _DIGITS + 1,), dtype=f"V{_DIGITS}", buffer=padded, strides=(1,)
    )
    words = windows[last].view("<u8").reshape(-1, 2)
    words &= _KEPT.take(digits, axis=0)
    # Eight digits in a word, the first in its lowest byte: pairs, then fours, then all eight are added up in place.
    for factor, bits, kept in _STEPS:
        words *= factor
        words >>= bits
        words &= kept
    return Members((words[:, 0] * _EIGHT + words[:, 1]).view(np.int64), sizes)
