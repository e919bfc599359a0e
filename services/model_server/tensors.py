"""Tensors on the wire and as arrays: TensorProto to numpy, and back in the form in which TensorFlow Serving answers."""

from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.python.framework import dtypes, tensor_util

from services.model_server.status import invalid_argument


def to_array(name: str, proto: tensor_pb2.TensorProto) -> npt.NDArray[Any]:
    """Return the values of the input `name`; those in `tensor_content` are not copied, and read-only.

    Raises:
        StatusError: the tensor contradicts itself, such as by having fewer bytes than its shape needs.
    """
    error = invalid_argument(f"tensor parsing error: {name}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if min(shape, default=0) < 0 or proto.tensor_shape.unknown_rank:
        raise error
    try:
        dtype = dtypes.as_dtype(proto.dtype)
        if proto.tensor_content and dtype != dtypes.string:
            return np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(shape)
        return np.asarray(tensor_util.MakeNdarray(proto))
    except (TypeError, ValueError):
        raise error from None


def write(array: npt.NDArray[Any], proto: tensor_pb2.TensorProto) -> None:
    """Write `array` into the empty `proto`, its values in the field of its type (`float_val`, `int_val`, …).

    TensorFlow Serving does the same. Clients read those fields directly, and `tensor_content` would break them.
    """
    proto.dtype = dtypes.as_dtype(array.dtype).as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if proto.dtype == types_pb2.DT_FLOAT:
        # Two million values a second if appended one by one; as the packed field's bytes, as fast as memory.
        values = np.ascontiguousarray(array, "<f4").tobytes()
        proto.MergeFromString(_FLOAT_VAL + _varint(len(values)) + values)
    else:
        tensor_util.GetNumpyAppendFn(array.dtype)(proto, array.ravel())


_FLOAT_VAL = bytes([tensor_pb2.TensorProto.FLOAT_VAL_FIELD_NUMBER << 3 | 2])
"""Tag of a packed field: its number, and wire type 2 (length, then bytes)."""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))
