"""Hash families as they are stored: parameters and arrays, and the bytes that hold them."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import TooNew
from shared.hashing.families import FAMILIES, REGISTRY
from shared.hashing.types import HashFamily, HashingError
from shared.versioned import FIELD, StoredKind

_FAMILY = StoredKind("hash family")
_PARAMETERS = "parameters"


def from_parts(parameters: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> HashFamily:
    """Restore a family from its parameters and arrays: it gives the same keys, bit for bit, on every machine.

    Raises:
        HashingError: The family is unknown, or a part is missing or does not fit; the message names it.
    """
    name = parameters.get("family")
    registration = REGISTRY.get(name) if isinstance(name, str) else None
    if registration is None:
        raise HashingError(
            f"hash family {name!r} is unknown, expected {' or '.join(map(repr, FAMILIES))}: "
            "it was made by another version; run `artseek rebuild --fit`"
        )
    return registration.restore(parameters, arrays)


def dumps(family: HashFamily) -> bytes:
    """Return a family as bytes: a NumPy ``.npz`` without pickles, of its arrays and its parameters as JSON."""
    parameters = np.frombuffer(json.dumps(family.parameters(), sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    stored = {FIELD: np.array(_FAMILY.newest), _PARAMETERS: parameters}
    np.savez_compressed(buffer, allow_pickle=False, **stored, **family.arrays())
    return buffer.getvalue()


def loads(data: bytes) -> HashFamily:
    """Restore a family from what `dumps` gave.

    Raises:
        TooNew: A newer version of Artseek wrote them.
        HashingError: These are other bytes, or cut short, or hold parts that do not fit.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        _FAMILY.check(int(arrays.pop(FIELD, np.array(1))), place="of an index")
        parameters = json.loads(arrays.pop(_PARAMETERS).tobytes())
        if not isinstance(parameters, dict):
            raise HashingError(f"the parameters are a {type(parameters).__name__}, expected an object")
    except TooNew:
        raise
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise HashingError(
            f"{len(data)} bytes are no stored hash family ({error}): restore the object or rebuild"
        ) from error
    return from_parts(parameters, arrays)
