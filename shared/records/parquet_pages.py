"""The pages of a Parquet file by their headers, in Thrift's compact protocol: what they unpack to, and their encodings.

The footer says it of whole columns, but readers go by the headers, and a file may say one thing there and another here.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (PageHeader)
"""

from typing import Final

from shared.errors import Invalid

_UNPACKED, _PACKED, _ENCODINGS = (2,), (3,), ((5, 2), (8, 4))  # fields of a header, by what they are in
_PREFIXES: Final = 7  # DELTA_BYTE_ARRAY: each value may repeat a long one before it
_I32: Final = 5
_FIXED: Final = {1: 0, 2: 0, 3: 1, 7: 8}  # bytes of types that have always the same: true, false, byte, double
_VARINTS: Final = frozenset({4, _I32, 6})
_BINARY, _LISTS, _STRUCT = 8, frozenset({9, 10}), 12
_DEEPEST: Final = 8
_LONGEST: Final = 63  # bits of a number


def unpacked_size(data: bytes, start: int, end: int) -> int:
    """Return the bytes that the pages of a column unpack to, which stand between two places of a file.

    Raises:
        Invalid: There are no whole pages, or their values lean on each other, so that nothing tells how long they are.
    """
    total = 0
    try:
        while start < end:
            header = _Header(data, start)
            packed, unpacked = header.numbers[_PACKED], header.numbers[_UNPACKED]
            if packed < 0 or unpacked < 0:
                raise Invalid("the file is no sound Parquet file: a page has a negative size")
            if any(header.numbers.get(field) == _PREFIXES for field in _ENCODINGS):
                raise Invalid("it has the encoding DELTA_BYTE_ARRAY: write it plainly, or with a dictionary")
            total += unpacked
            start = header.place + packed
    except (IndexError, KeyError) as error:
        raise Invalid("the file is no sound Parquet file: the header of a page is cut off") from error
    return total


class _Header:
    """The numbers that a page header says, by the fields that they are in, and the place behind it."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self.place = data, place
        self.numbers: dict[tuple[int, ...], int] = {}
        self._struct(())

    def _struct(self, within: tuple[int, ...]) -> None:
        if len(within) > _DEEPEST:
            raise KeyError(within)
        field = 0
        while (head := self._byte()) != 0:
            kind, step = head & 15, head >> 4
            field = field + step if step else self._zigzag()
            if kind == _I32:
                self.numbers[*within, field] = self._zigzag()
            else:
                self._skip(kind, (*within, field))

    def _skip(self, kind: int, within: tuple[int, ...]) -> None:
        if kind in _FIXED:
            self.place += _FIXED[kind]
        elif kind in _VARINTS:
            self._varint()
        elif kind == _BINARY:
            length = self._varint()
            self.place += length
        elif kind == _STRUCT:
            self._struct(within)
        elif kind in _LISTS:
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            inner = head & 15
            if inner in {1, 2}:  # in a list, a truth has a byte of its own
                self.place += count
                return
            for _ in range(count):
                self._skip(inner, (*within, 0))
        else:
            raise KeyError(kind)

    def _byte(self) -> int:
        value = self._data[self.place]
        self.place += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > _LONGEST:
                raise KeyError(shift)
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
