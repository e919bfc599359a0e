"""What is sent to and from the process that compares: lists of packed features, and what was found of each."""

import json
import math
import struct
from collections.abc import Sequence
from typing import Final

from shared.errors import Invalid
from shared.proof.findings import MOST_CORNERS, Polygon, Proof

_LONGEST_REASON: Final = 200
_LENGTH: Final = struct.Struct("<I")


def packed_list(parts: Sequence[bytes]) -> bytes:
    """Return values, each behind its length."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def unpacked_list(data: bytes) -> list[bytes]:
    """Return the values that `packed_list` packed.

    Raises:
        Invalid: It packed none of it.
    """
    parts, at = [], 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise Invalid("a list of features ends too soon")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise Invalid("a list of features ends too soon")
        parts.append(data[at : at + length])
        at += length
    return parts


def packed_proofs(proofs: Sequence[Proof]) -> bytes:
    """Return what was found, as JSON."""
    return json.dumps([vars(proof) for proof in proofs]).encode()


def unpacked_proofs(data: bytes | bytearray, expected: int) -> list[Proof]:
    """Return what was found of so many pictures; what hostile bytes may have made of the process is not believed.

    Raises:
        Invalid: It is no such list.
    """
    try:
        proofs = [_proof(values) for values in json.loads(data)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(f"a comparison answered with what is no answer: {error}") from None
    if len(proofs) != expected:
        raise Invalid(f"a comparison of {expected} pictures answered for {len(proofs)}")
    return proofs


def _proof(values: dict[str, object]) -> Proof:
    def number(name: str) -> float:
        value = values[name]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise TypeError(f"{name} is no number")
        return value

    def polygon(name: str) -> Polygon:
        given = values[name]
        if not isinstance(given, list) or len(given) > MOST_CORNERS:
            raise TypeError(f"{name} is no polygon")
        corners = [(float(x), float(y)) for x, y in given]
        if not all(math.isfinite(side) for corner in corners for side in corner):
            raise TypeError(f"{name} is no polygon")
        return tuple(corners)

    return Proof(
        same=values["same"] is True,
        inliers=int(number("inliers")),
        matches=int(number("matches")),
        agreement=number("agreement"),
        spread=number("spread"),
        mirrored=values["mirrored"] is True,
        in_a=polygon("in_a"),
        in_b=polygon("in_b"),
        reason=str(values["reason"])[:_LONGEST_REASON],
    )
