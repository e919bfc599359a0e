"""Notes in JPEG files that Artseek makes: a comment at the beginning, JSON with a format number, which viewers skip."""

import json
import struct
from collections.abc import Mapping
from typing import Any

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"


def with_note(jpeg: bytes, values: Mapping[str, Any], *, version: int) -> bytes:
    """Return a JPEG with a note of values of JSON's types, and of the version of their format."""
    text = json.dumps({"format": version, **values}).encode()
    return _START + _COMMENT + struct.pack(">H", len(text) + 2) + text + jpeg[len(_START) :]


def note_of(jpeg: bytes, *, version: int) -> dict[str, Any] | None:
    """Return the values of a note; None if there is none, or it is of another format."""
    if jpeg[:4] != _START + _COMMENT:
        return None
    try:
        values = json.loads(jpeg[6 : 4 + struct.unpack_from(">H", jpeg, 4)[0]])
        return dict(values) if values.pop("format") == version else None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
