"""The model server's parts that need no server: config, version policies, tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.config import model_server_config_pb2

from services.model_server.config import read_config
from services.model_server.status import StatusError, from_number
from services.model_server.tensors import to_array, write
from services.model_server.versions import aspired_versions
from shared.model_config import model_config

pytestmark = pytest.mark.slow


def model(base: Path, policy: str = "") -> model_server_config_pb2.ModelConfig:
    text = f'name: "m" base_path: "{base}" model_platform: "tensorflow" {policy}'
    return text_format.Parse(text, model_server_config_pb2.ModelConfig())


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [12]),
        ("model_version_policy { latest { } }", [12]),
        ("model_version_policy { latest { num_versions: 2 } }", [9, 12]),
        ("model_version_policy { latest { num_versions: 99 } }", [1, 9, 12]),
        ("model_version_policy { all { } }", [1, 9, 12]),
        ("model_version_policy { specific { versions: 12 versions: 1 versions: 7 } }", [1, 12]),
    ],
)
def test_a_policy_chooses_among_the_numbered_entries(tmp_path: Path, policy: str, expected: list[int]) -> None:
    for name in ("1", "9", "12", "draft", ".13", "-4", "2.5", "1_0"):
        (tmp_path / name).mkdir()
    found, remark = aspired_versions(model(tmp_path, policy))
    assert list(found) == expected
    assert remark == (f"{tmp_path} has no version 7, which its policy asks for" if "7" in policy else "")
    assert all(found[version] == tmp_path / str(version) for version in expected)


def test_a_folder_without_versions_and_no_folder_are_two_things(tmp_path: Path) -> None:
    found, remark = aspired_versions(model(tmp_path))
    assert found == {}
    assert remark.startswith(f"{tmp_path} has no version")
    with pytest.raises(FileNotFoundError):
        aspired_versions(model(tmp_path / "gone"))


ENTRY = 'config { name: "%s" base_path: "%s" model_platform: "tensorflow" }'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { config {", "cannot read the model config file"),
        ("", "no model_config_list"),
        ('custom_model_config { type_url: "a/b" }', "no model_config_list"),
        (f"model_config_list {{ {ENTRY % ('', '/m')} }}", "has no name"),
        (f"model_config_list {{ {ENTRY % ('a', '/m')} {ENTRY % ('a', '/n')} }}", "a multiple times"),
        (f"model_config_list {{ {ENTRY % ('a', 'm/n')} }}", "absolute path; got base_path.*=m/n"),
        ('model_config_list { config { name: "a" base_path: "/m" } }', "unsupported platform ''"),
        ('model_config_list { config { name: "a" base_path: "/m" model_platform: "x" } }', "unsupported platform 'x'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(StatusError, match=message) as caught:
        read_config(path)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_config_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=str(tmp_path / "none")):
        read_config(tmp_path / "none")


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]
FIELDS = {"f4": "float_val", "f8": "double_val", "u1": "int_val", "i8": "int64_val", "?": "bool_val", "f2": "half_val"}


def same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    np.testing.assert_array_equal(left, right)


@given(st.data())
def test_tensors_round_trip_through_the_official_functions(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))
    written = tensor_pb2.TensorProto()
    write(array, written)
    if array.size:
        same(tf.make_ndarray(written), array)
        same(to_array("x", written), array)
        same(to_array("x", tf.make_tensor_proto(array)), array)
    assert not written.tensor_content


@pytest.mark.parametrize("dtype", FIELDS)
def test_values_stand_in_the_field_of_their_type(dtype: str) -> None:
    written = tensor_pb2.TensorProto()
    write(np.arange(300).astype(dtype), written)
    assert {field.name for field, _ in written.ListFields()} == {"dtype", "tensor_shape", FIELDS[dtype]}
    assert len(getattr(written, FIELDS[dtype])) == 300


def test_text_round_trips() -> None:
    array = np.array([[b"a", b""], [b"\xff\x00", b"long" * 99]], object)
    written = tensor_pb2.TensorProto()
    write(array, written)
    same(to_array("x", written), array)
    same(to_array("x", tf.make_tensor_proto(array)), array)


def _set(**fields: Any) -> Callable[[], tensor_pb2.TensorProto]:
    def make() -> tensor_pb2.TensorProto:
        proto = tf.make_tensor_proto(np.zeros((2, 3), np.float32))
        for name, value in fields.items():
            setattr(proto, name, value)
        return proto

    return make


def test_one_value_may_stand_for_all() -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.uint8.as_datatype_enum, int_val=[127])
    for size in (2, 3):
        proto.tensor_shape.dim.add(size=size)
    same(to_array("x", proto), np.full((2, 3), 127, np.uint8))


@pytest.mark.parametrize(
    "broken", [_set(tensor_content=b"123"), _set(tensor_content=bytes(28)), _set(dtype=0), _set(dtype=9999)]
)
def test_a_tensor_that_contradicts_itself_is_refused(broken: Callable[[], tensor_pb2.TensorProto]) -> None:
    with pytest.raises(StatusError, match="tensor parsing error: images") as caught:
        to_array("images", broken())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_negative_sizes_and_too_many_values_are_refused() -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, float_val=[1, 2, 3])
    proto.tensor_shape.dim.add(size=2)
    with pytest.raises(StatusError, match="tensor parsing error"):
        to_array("images", proto)
    proto.tensor_shape.dim[0].size = -1
    with pytest.raises(StatusError, match="tensor parsing error"):
        to_array("images", proto)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_status_numbers_are_those_of_tensorflow(code: grpc.StatusCode) -> None:
    assert from_number(code.value[0], "").code is code
    assert getattr(tf.errors, code.name) == from_number(code.value[0], "").number


@pytest.mark.parametrize(
    "name", ["Museum, Berlin", "a'b\"c", "${HOME}", "Gemälde", "two\nlines", "back\\slash", "tab\t"]
)
def test_the_path_of_a_model_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    config = tmp_path / "models.config"
    config.write_text(model_config(["net"], f"/srv/{name}"), encoding="utf-8")
    assert read_config(config).config[0].base_path == f"/srv/{name}/net"
