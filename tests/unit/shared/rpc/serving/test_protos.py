"""The protocol buffers: our copy of TensorFlow Serving's messages fits the official ones."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    status_pb2,
)

from shared.rpc.serving import serving_pb2 as pb

pytestmark = pytest.mark.slow

OFFICIAL: dict[type[Message], type[Message]] = {
    pb.Tensor: tensor_pb2.TensorProto,
    pb.TensorShape: tensor_shape_pb2.TensorShapeProto,
    pb.ModelSpec: model_pb2.ModelSpec,
    pb.PredictRequest: predict_pb2.PredictRequest,
    pb.PredictResponse: predict_pb2.PredictResponse,
    pb.TensorInfo: meta_graph_pb2.TensorInfo,
    pb.SignatureDef: meta_graph_pb2.SignatureDef,
    pb.SignatureDefMap: get_model_metadata_pb2.SignatureDefMap,
    pb.GetModelMetadataRequest: get_model_metadata_pb2.GetModelMetadataRequest,
    pb.GetModelMetadataResponse: get_model_metadata_pb2.GetModelMetadataResponse,
    pb.Status: status_pb2.StatusProto,
    pb.ModelVersionStatus: get_model_status_pb2.ModelVersionStatus,
    pb.GetModelStatusRequest: get_model_status_pb2.GetModelStatusRequest,
    pb.GetModelStatusResponse: get_model_status_pb2.GetModelStatusResponse,
    pb.PredictLog: prediction_log_pb2.PredictLog,
    pb.PredictionLog: prediction_log_pb2.PredictionLog,
}

# An enum of which we name few values or none travels as the number it is.
_SAME_ON_THE_WIRE = {FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32}


def _same_fields(ours: Descriptor, official: Descriptor) -> None:
    for field in ours.fields:
        twin = official.fields_by_number[field.number]
        assert (field.name, field.is_repeated) == (twin.name, twin.is_repeated)
        kinds = {_SAME_ON_THE_WIRE.get(kind, kind) for kind in (field.type, twin.type)}
        assert len(kinds) == 1, field.full_name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _same_fields(field.message_type, twin.message_type)


@pytest.mark.parametrize("ours", OFFICIAL, ids=lambda message: message.__name__)
def test_every_field_is_tensorflow_serving_s(ours: type[Message]) -> None:
    _same_fields(ours.DESCRIPTOR, OFFICIAL[ours].DESCRIPTOR)  # type: ignore[arg-type]


def test_every_message_is_compared() -> None:
    names = set(pb.DESCRIPTOR.message_types_by_name)
    assert names == {message.DESCRIPTOR.name for message in OFFICIAL}


def test_enums_have_the_official_numbers() -> None:
    for name, state in pb.ModelVersionStatus.State.items():
        assert get_model_status_pb2.ModelVersionStatus.State.Value(name) == state
    for name, number in pb.DataType.items():
        if name != "DT_INVALID":
            assert tf.dtypes.as_dtype(number).as_datatype_enum == number
            assert f"DT_{tf.dtypes.as_dtype(number).name.upper()}" in {name, "DT_FLOAT32"}


def test_a_request_reads_the_same_on_both_sides() -> None:
    images = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    official = predict_pb2.PredictRequest()
    official.model_spec.name = "m"
    official.model_spec.version.value = 7
    official.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    ours = pb.PredictRequest.FromString(official.SerializeToString())
    assert (ours.model_spec.name, ours.model_spec.version.value) == ("m", 7)
    assert ours.inputs["images"].tensor_content == images.tobytes()
    assert [dim.size for dim in ours.inputs["images"].tensor_shape.dim] == [2, 3, 3, 3]
    assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == official
