"""Failures of the model server, as TensorFlow Serving's official client and ours see them."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from shared.rpc.serving import serving_pb2 as pb
from shared.rpc.serving.client import ServingClient
from shared.rpc.serving.errors import ModelNotFound, ModelRefused, ModelUnavailable, ServingError
from tests.support.model_servers import (
    Images,
    ModelServerProcess,
    State,
    random_images,
    request_for,
)


def _broken(change: Callable[[predict_pb2.PredictRequest], Any]) -> predict_pb2.PredictRequest:
    request = request_for(random_images(1, 8), version=1)
    change(request)
    return request


def _input(request: predict_pb2.PredictRequest, value: Any, name: str = "images") -> None:
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))


def _rename(request: predict_pb2.PredictRequest) -> None:
    request.inputs["pixels"].CopyFrom(request.inputs["images"])
    del request.inputs["images"]


ONE = random_images(1, 8)
FAILURES: dict[str, tuple[Callable[[predict_pb2.PredictRequest], Any], str, str]] = {
    "no model spec": (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no name": (lambda r: r.model_spec.ClearField("name"), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": (
        lambda r: setattr(r.model_spec, "name", "nosuch"),
        "NOT_FOUND",
        "Servable not found for request: Specific(nosuch, 1)",
    ),
    "unknown latest": (
        lambda r: r.model_spec.CopyFrom(model_pb2.ModelSpec(name="nosuch")),
        "NOT_FOUND",
        "Servable not found for request: Latest(nosuch)",
    ),
    "unknown version": (
        lambda r: setattr(r.model_spec.version, "value", 9),
        "NOT_FOUND",
        "Servable not found for request: Specific(tiny, 9)",
    ),
    "unknown label": (
        lambda r: setattr(r.model_spec, "version_label", "canary"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: canary",
    ),
    "unknown signature": (
        lambda r: setattr(r.model_spec, "signature_name", "nosuch"),
        "FAILED_PRECONDITION",
        'Serving signature key "nosuch" not found.',
    ),
    "missing input": (
        lambda r: r.inputs.clear(),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({images}). Sent extra: {}. Missing",
    ),
    "input too many": (
        lambda r: _input(r, 1, "more"),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({images,more}) != len({images}). Sent extra: {more}.",
    ),
    "wrong input name": (
        _rename,
        "INVALID_ARGUMENT",
        "Signature input alias: images(feed name: serving_default_images:0) not found in request",
    ),
    "wrong type": (
        lambda r: _input(r, ONE.astype(np.float32)),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be uint8 but float is",
    ),
    "unknown type": (
        lambda r: setattr(r.inputs["images"], "dtype", 99),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be uint8",
    ),
    "wrong size": (lambda r: _input(r, random_images(1, 9)), "INVALID_ARGUMENT", "input images has the shape"),
    "wrong rank": (lambda r: _input(r, ONE[0]), "INVALID_ARGUMENT", "input images has the shape"),
    "too few bytes": (
        lambda r: setattr(r.inputs["images"], "tensor_content", b"1"),
        "INVALID_ARGUMENT",
        "tensor parsing error: images",
    ),
    "unknown output": (
        lambda r: r.output_filter.append("nosuch"),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: nosuch",
    ),
    "output twice": (
        lambda r: r.output_filter.extend(["embeddings", "embeddings"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: embeddings",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_both_clients_get_tensorflow_serving_s_status(tiny: ModelServerProcess, case: str) -> None:
    change, code, message = FAILURES[case]
    request = _broken(change)
    with pytest.raises(grpc.RpcError) as official:
        tiny.predict(request)
    call = tiny.channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictResponse.FromString,
    )
    with pytest.raises(grpc.RpcError) as ours:
        call(pb.PredictRequest.FromString(request.SerializeToString()))
    assert official.value.code().name == ours.value.code().name == code
    assert official.value.details() == ours.value.details()
    assert (official.value.details() or "").startswith(message)


@pytest.mark.parametrize(
    ("name", "choice", "error"),
    [
        ("nosuch", {}, ModelNotFound),
        ("tiny", {"version": 9}, ModelNotFound),
        ("tiny", {"label": "canary"}, ModelRefused),
    ],
)
def test_our_client_says_what_is_not_there(
    tiny: ModelServerProcess, name: str, choice: dict[str, Any], error: type[ServingError]
) -> None:
    with ServingClient(tiny.target, name, **choice) as client, pytest.raises(error, match=name):
        client.embed(ONE)


@pytest.mark.parametrize("images", [ONE.astype(np.float32), ONE[0], random_images(1, 9), ONE[..., :1]])
def test_our_client_refuses_what_the_model_does_not_take(tiny: ModelServerProcess, images: Images) -> None:
    refusal = pytest.raises(ModelRefused, match=r"expected uint8 \(n, 8, 8, 3\)")
    with ServingClient(tiny.target, "tiny") as client, refusal:
        client.embed(images)


def test_a_call_ends_at_its_deadline(tiny: ModelServerProcess) -> None:
    with ServingClient(tiny.target, "tiny") as client:
        client.signature()
        with pytest.raises(ModelUnavailable, match="DEADLINE_EXCEEDED"):
            client.embed(random_images(200_000, 8), timeout_s=0.001)
        assert client.embed(ONE).shape == (1, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "must specify at least one metadata_field"),
        (["signature_def", "cost"], "Metadata field cost is not supported"),
    ],
)
def test_metadata_must_be_asked_for_by_name(tiny: ModelServerProcess, fields: list[str], message: str) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "tiny"
    with pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(tiny.channel).GetModelMetadata(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (caught.value.details() or "")


def test_the_status_of_what_is_unknown_is_not_found(tiny: ModelServerProcess) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(tiny.channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
        stub.GetModelStatus(request)
    request.model_spec.name = "nosuch"
    with pytest.raises(grpc.RpcError, match="Could not find any versions of model nosuch") as caught:
        stub.GetModelStatus(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with ServingClient(tiny.target, "nosuch") as client, pytest.raises(ModelNotFound):
        client.status()
    request.model_spec.name = "tiny"
    request.model_spec.version.value = 9
    with pytest.raises(grpc.RpcError, match="Could not find version 9 of model tiny") as caught:
        stub.GetModelStatus(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    request.model_spec.version.value = 1
    [entry] = stub.GetModelStatus(request).model_version_status
    assert (entry.version, entry.state, entry.status.error_code) == (1, State.AVAILABLE, 0)


def test_methods_on_records_are_not_offered(tiny: ModelServerProcess) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(tiny.channel)
    for method, request in (
        (stub.Classify, classification_pb2.ClassificationRequest()),
        (stub.Regress, regression_pb2.RegressionRequest()),
        (stub.MultiInference, inference_pb2.MultiInferenceRequest()),
    ):
        with pytest.raises(grpc.RpcError, match="use Predict") as caught:
            method(request)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
