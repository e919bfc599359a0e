"""Answers of the model server, to TensorFlow Serving's official client and to ours."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from shared.rpc.serving.client import ModelSignature, ServingClient, VersionStatus
from tests.support.eventually import PATIENCE_S
from tests.support.model_servers import (
    ModelServerProcess,
    mean_colours,
    random_images,
    request_for,
)
from tests.support.paths import ROOT


def test_both_clients_get_the_default_model_s_embeddings(default: ModelServerProcess) -> None:
    images = random_images(5, 224)
    folder = default.models / "efficientnet-lite0" / "1"
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    expected = served(images=tf.constant(images))["embeddings"].numpy()

    answer = default.predict(request_for(images, "efficientnet-lite0"))
    official = tf.make_ndarray(answer.outputs["embeddings"])
    with ServingClient(default.target, "efficientnet-lite0") as client:
        ours = client.embed(images)
        assert client.signature() == ModelSignature("efficientnet-lite0", version=1, input_size=224, dim=1280)
        assert client.status() == [VersionStatus(1, "AVAILABLE", "")]
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, official)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    # The official client's usual way to read an answer.
    assert list(answer.outputs["embeddings"].float_val) == official.ravel().tolist()
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("efficientnet-lite0", 1, "serving_default")


def test_batches_larger_than_one_request_come_back_whole_and_in_order(default: ModelServerProcess) -> None:
    images = random_images(11, 224, seed=1)
    with (
        ServingClient(default.target, "efficientnet-lite0", max_batch=4) as split,
        ServingClient(default.target, "efficientnet-lite0") as whole,
    ):
        np.testing.assert_allclose(split.embed(images), whole.embed(images), atol=1e-6)
        flipped = images[::-1, :, ::-1]  # not contiguous in memory
        np.testing.assert_array_equal(whole.embed(flipped), whole.embed(flipped.copy()))
        assert whole.embed(images[:0]).shape == (0, 1280)


def test_warm_up_requests_are_replayed(default: ModelServerProcess) -> None:
    assert "replayed 3 warm-up requests" in default.log
    assert "oneDNN" not in default.log  # nothing but our own lines
    assert all(line[:2] == "20" for line in default.log.splitlines()), default.log


def test_both_clients_read_the_same_metadata(tiny: ModelServerProcess) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tiny"
    answer = prediction_service_pb2_grpc.PredictionServiceStub(tiny.channel).GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert answer.model_spec.version.value == 2
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs["images"].dtype == tf.uint8.as_datatype_enum
    assert set(signatures.signature_def) >= {"serving_default", "work", "upper"}
    with ServingClient(tiny.target, "tiny") as client:
        assert client.signature() == ModelSignature("tiny", version=2, input_size=8, dim=3)


@pytest.mark.parametrize(
    ("choice", "version"), [({}, 2), ({"version": 1}, 1), ({"version": 2}, 2), ({"label": "stable"}, 1)]
)
def test_both_clients_choose_a_version(tiny: ModelServerProcess, choice: dict[str, Any], version: int) -> None:
    images = random_images(4, 8)
    answer = tiny.predict(request_for(images, **choice))
    with ServingClient(tiny.target, "tiny", **choice) as client:
        np.testing.assert_array_equal(client.embed(images), tf.make_ndarray(answer.outputs["embeddings"]))
        assert client.signature().version == answer.model_spec.version.value == version
        np.testing.assert_allclose(client.embed(images), mean_colours(images, version), rtol=1e-5)


def test_outputs_are_those_asked_for(tiny: ModelServerProcess) -> None:
    images = random_images(2, 8)
    request = request_for(images, version=1)
    assert set(tiny.predict(request).outputs) == {"embeddings", "brightness"}
    request.output_filter.append("brightness")
    answer = tiny.predict(request)
    assert set(answer.outputs) == {"brightness"}
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["brightness"]), images.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_other_signatures_and_types_are_served(tiny: ModelServerProcess) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = "upper"
    request.inputs["names"].CopyFrom(tf.make_tensor_proto(["monet", "", "π"]))
    answer = tiny.predict(request)
    assert answer.model_spec.signature_name == "upper"
    assert list(answer.outputs["names"].string_val) == [b"MONET", b"", "π".encode()]
    assert list(answer.outputs["lengths"].int64_val) == [5, 0, 2]


def test_messages_may_be_large(tiny: ModelServerProcess) -> None:
    images = random_images(100_000, 8)  # 19 MB there, where gRPC allows 4 by default
    with ServingClient(tiny.target, "tiny", version=1, max_batch=len(images)) as client:
        np.testing.assert_allclose(client.embed(images), mean_colours(images, 1), rtol=1e-4)


def test_one_client_serves_many_threads(tiny: ModelServerProcess) -> None:
    with ServingClient(tiny.target, "tiny") as client, ThreadPoolExecutor(8) as pool:
        batches = [random_images(3, 8, seed) for seed in range(60)]
        for images, found in zip(batches, pool.map(client.embed, batches), strict=True):
            np.testing.assert_allclose(found, mean_colours(images, 2), rtol=1e-5)


def test_a_client_made_before_a_fork_works_in_the_child(tiny: ModelServerProcess) -> None:
    code = """
import os, sys
import numpy as np
from shared.rpc.serving.client import ServingClient
client = ServingClient(sys.argv[1], "tiny")
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        found = client.embed(np.full((1, 8, 8, 3), 5, np.uint8))
        os._exit(0 if found.tolist() == [[10, 10, 10]] else 1)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""
    subprocess.run([sys.executable, "-c", code, tiny.target], cwd=ROOT, check=True, timeout=PATIENCE_S)
