"""The model server as a process, driven by TensorFlow Serving's official client and by ours."""

import itertools
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from shared.rpc.serving import serving_pb2 as pb
from shared.rpc.serving.client import ModelSignature, ServingClient, VersionStatus
from shared.rpc.serving.errors import ModelNotFound, ModelRefused, ModelUnavailable, ServingError
from tests.support.paths import ROOT

PATIENCE_S = 90.0
Images = npt.NDArray[np.uint8]
State = get_model_status_pb2.ModelVersionStatus


# Models and servers to test with.


def save_tiny(folder: Path, factor: float) -> None:
    """Write a SavedModel that embeds 8 px images as `factor` times their mean colour; whole from the first moment."""
    spec = tf.TensorSpec([None, 8, 8, 3], tf.uint8, name="images")
    module = tf.Module()
    module.factor = tf.Variable(factor, dtype=tf.float32)

    @tf.function(input_signature=[spec])  # type: ignore[untyped-decorator]
    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        means = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2]) * module.factor
        return {"embeddings": tf.ensure_shape(means, [None, 3]), "brightness": tf.reduce_mean(means, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="rounds")])  # type: ignore[untyped-decorator]
    def work(rounds: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take long: multiply matrices `rounds` times."""
        last = tf.while_loop(
            lambda i, _: i < rounds, lambda i, m: (i + 1, tf.linalg.matmul(m, m) / 512.0), (0, tf.ones([512, 512]))
        )[1]
        return {"result": last[0, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="names")])  # type: ignore[untyped-decorator]
    def upper(names: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"names": tf.strings.upper(names), "lengths": tf.cast(tf.strings.length(names), tf.int64)}

    module.embed, module.work, module.upper = embed, work, upper
    building = folder.parent.parent / f"building-{folder.parent.name}-{folder.name}"
    tf.saved_model.save(module, str(building), signatures={"serving_default": embed, "work": work, "upper": upper})
    folder.parent.mkdir(parents=True, exist_ok=True)
    building.rename(folder)


def config_text(models: Path, *entries: str) -> str:
    """Return a model config; an entry is a model's name, and what else its config says."""
    configs = (
        f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" {rest} }}'
        for name, _, rest in (entry.partition(" ") for entry in entries)
    )
    return f"model_config_list {{ {' '.join(configs)} }}"


@dataclass
class Server:
    """A model server's process, and the official stubs that reach it."""

    models: Path
    port: int
    process: "subprocess.Popen[bytes]"
    channel: grpc.Channel
    flags: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.models / "server.log").read_text("utf-8")

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict(request, timeout=PATIENCE_S)

    def states(self, name: str) -> dict[int, Any]:
        """Return the official version statuses by version; empty while the server knows none."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        stub = model_service_pb2_grpc.ModelServiceStub(self.channel)
        try:
            answer = stub.GetModelStatus(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        return {entry.version: entry for entry in answer.model_version_status}

    def wait_for_state(self, name: str, version: int, state: int) -> Any:
        return until(lambda: (found := self.states(name).get(version)) and found.state == state and found)

    def health(self) -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def start(self) -> None:
        """Start the process (again) and wait until its port is open."""
        with (self.models / "server.log").open("ab") as log:
            command = [
                sys.executable,
                "-m",
                "services.model_server",
                f"--model_config_file={self.models / 'models.config'}",
                f"--port={self.port}",
                "--file_system_poll_wait_seconds=0.2",
                *self.flags,
            ]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        until(self._is_open)

    def _is_open(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def until(condition: Callable[[], Any]) -> Any:
    """Return the first true value of `condition`."""
    for _ in range(int(PATIENCE_S / 0.05)):
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(models: Path, *entries: str, flags: tuple[str, ...] = ()) -> Iterator[Server]:
    """Run a server of the models in a folder, and end it by SIGTERM, which must succeed."""
    (models / "models.config").write_text(config_text(models, *entries), "utf-8")
    port = free_port()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        server = Server(models, port, process=None, channel=channel, flags=list(flags))  # type: ignore[arg-type]
        server.start()
        try:
            yield server
            server.process.terminate()
            assert server.process.wait(PATIENCE_S) == 0, server.log
        finally:
            if server.process.poll() is None:
                server.kill()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny model's versions 1 and 2, with the label "stable" on 1."""
    models = tmp_path_factory.mktemp("tiny")
    for version in (1, 2):
        save_tiny(models / "tiny" / str(version), factor=version)
    rest = 'model_version_policy { all { } } version_labels { key: "stable" value: 1 }'
    with serving(models, f"tiny {rest}") as server:
        yield server


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the default model, exported on the spot by the command that users run."""
    models = tmp_path_factory.mktemp("default")
    subprocess.run([sys.executable, "-m", "training.export", "--out", str(models)], cwd=ROOT, check=True)
    with serving(models, "efficientnet-lite0") as server:
        yield server


def random_images(count: int, size: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def mean_colours(images: Images, factor: float) -> npt.NDArray[np.float64]:
    means: npt.NDArray[np.float64] = images.mean(axis=(1, 2)) * factor
    return means


def request_for(
    images: Images, name: str = "tiny", *, version: int | None = None, label: str = ""
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    return request


# The default model.


def test_both_clients_get_the_default_model_s_embeddings(default: Server) -> None:
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


def test_batches_larger_than_one_request_come_back_whole_and_in_order(default: Server) -> None:
    images = random_images(11, 224, seed=1)
    with (
        ServingClient(default.target, "efficientnet-lite0", max_batch=4) as split,
        ServingClient(default.target, "efficientnet-lite0") as whole,
    ):
        np.testing.assert_allclose(split.embed(images), whole.embed(images), atol=1e-6)
        flipped = images[::-1, :, ::-1]  # not contiguous in memory
        np.testing.assert_array_equal(whole.embed(flipped), whole.embed(flipped.copy()))
        assert whole.embed(images[:0]).shape == (0, 1280)


def test_warm_up_requests_are_replayed(default: Server) -> None:
    assert "replayed 3 warm-up requests" in default.log
    assert "oneDNN" not in default.log  # nothing but our own lines
    assert all(line[:2] == "20" for line in default.log.splitlines()), default.log


# Answers of the tiny model, to both clients.


def test_both_clients_read_the_same_metadata(tiny: Server) -> None:
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
def test_both_clients_choose_a_version(tiny: Server, choice: dict[str, Any], version: int) -> None:
    images = random_images(4, 8)
    answer = tiny.predict(request_for(images, **choice))
    with ServingClient(tiny.target, "tiny", **choice) as client:
        np.testing.assert_array_equal(client.embed(images), tf.make_ndarray(answer.outputs["embeddings"]))
        assert client.signature().version == answer.model_spec.version.value == version
        np.testing.assert_allclose(client.embed(images), mean_colours(images, version), rtol=1e-5)


def test_outputs_are_those_asked_for(tiny: Server) -> None:
    images = random_images(2, 8)
    request = request_for(images, version=1)
    assert set(tiny.predict(request).outputs) == {"embeddings", "brightness"}
    request.output_filter.append("brightness")
    answer = tiny.predict(request)
    assert set(answer.outputs) == {"brightness"}
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["brightness"]), images.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_other_signatures_and_types_are_served(tiny: Server) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = "upper"
    request.inputs["names"].CopyFrom(tf.make_tensor_proto(["monet", "", "π"]))
    answer = tiny.predict(request)
    assert answer.model_spec.signature_name == "upper"
    assert list(answer.outputs["names"].string_val) == [b"MONET", b"", "π".encode()]
    assert list(answer.outputs["lengths"].int64_val) == [5, 0, 2]


def test_messages_may_be_large(tiny: Server) -> None:
    images = random_images(100_000, 8)  # 19 MB there, where gRPC allows 4 by default
    with ServingClient(tiny.target, "tiny", version=1, max_batch=len(images)) as client:
        np.testing.assert_allclose(client.embed(images), mean_colours(images, 1), rtol=1e-4)


def test_one_client_serves_many_threads(tiny: Server) -> None:
    with ServingClient(tiny.target, "tiny") as client, ThreadPoolExecutor(8) as pool:
        batches = [random_images(3, 8, seed) for seed in range(60)]
        for images, found in zip(batches, pool.map(client.embed, batches), strict=True):
            np.testing.assert_allclose(found, mean_colours(images, 2), rtol=1e-5)


def test_a_client_made_before_a_fork_works_in_the_child(tiny: Server) -> None:
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


# Failures, as both clients see them.


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
def test_both_clients_get_tensorflow_serving_s_status(tiny: Server, case: str) -> None:
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
    tiny: Server, name: str, choice: dict[str, Any], error: type[ServingError]
) -> None:
    with ServingClient(tiny.target, name, **choice) as client, pytest.raises(error, match=name):
        client.embed(ONE)


@pytest.mark.parametrize("images", [ONE.astype(np.float32), ONE[0], random_images(1, 9), ONE[..., :1]])
def test_our_client_refuses_what_the_model_does_not_take(tiny: Server, images: Images) -> None:
    refusal = pytest.raises(ModelRefused, match=r"expected uint8 \(n, 8, 8, 3\)")
    with ServingClient(tiny.target, "tiny") as client, refusal:
        client.embed(images)


def test_a_call_ends_at_its_deadline(tiny: Server) -> None:
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
def test_metadata_must_be_asked_for_by_name(tiny: Server, fields: list[str], message: str) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "tiny"
    with pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(tiny.channel).GetModelMetadata(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (caught.value.details() or "")


def test_the_status_of_what_is_unknown_is_not_found(tiny: Server) -> None:
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


def test_methods_on_records_are_not_offered(tiny: Server) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(tiny.channel)
    for method, request in (
        (stub.Classify, classification_pb2.ClassificationRequest()),
        (stub.Regress, regression_pb2.RegressionRequest()),
        (stub.MultiInference, inference_pb2.MultiInferenceRequest()),
    ):
        with pytest.raises(grpc.RpcError, match="use Predict") as caught:
            method(request)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# Versions that come, go and fail.


def test_a_new_version_takes_over_without_a_gap(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    images = random_images(2, 8)
    with serving(tmp_path, "tiny") as server, ServingClient(server.target, "tiny") as pinned:
        np.testing.assert_allclose(pinned.embed(images), mean_colours(images, 1), rtol=1e-5)

        answered: list[int] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                answer = server.predict(request_for(images))
                factor = answer.model_spec.version.value
                np.testing.assert_allclose(
                    tf.make_ndarray(answer.outputs["embeddings"]), mean_colours(images, factor), rtol=1e-5
                )
                answered.append(factor)

        with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
            stack.callback(done.set)
            asking = [pool.submit(ask) for _ in range(2)]
            save_tiny(tmp_path / "tiny" / "2", factor=2)
            server.wait_for_state("tiny", 1, State.END)
            count = len(answered)
            until(lambda: len(answered) > count + 10)
            done.set()
            for future in asking:
                future.result()  # no call failed
        assert [version for version, _ in itertools.groupby(sorted(answered))] == [1, 2]
        assert set(answered[count + 2 :]) == {2}
        assert server.states("tiny")[2].state == State.AVAILABLE

        # A version is an embedding embedding set: the old client does not silently move into the new one.
        with pytest.raises(ModelNotFound, match=r"Specific\(tiny, 1\)"):
            pinned.embed(images)
        with ServingClient(server.target, "tiny") as fresh:
            np.testing.assert_allclose(fresh.embed(images), mean_colours(images, 2), rtol=1e-5)
            assert [entry.state for entry in fresh.status()] == ["END", "AVAILABLE"]

        shutil.rmtree(tmp_path / "tiny" / "2")
        server.wait_for_state("tiny", 2, State.END)
        np.testing.assert_allclose(pinned.embed(images), mean_colours(images, 1), rtol=1e-5)


def test_a_broken_version_is_reported_while_the_old_one_serves_on(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    images = random_images(2, 8)
    with serving(tmp_path, "tiny") as server, ServingClient(server.target, "tiny") as client:
        broken = tmp_path / "tiny" / "2"
        broken.mkdir()
        (broken / "saved_model.pb").write_bytes(b"no model")
        status = server.wait_for_state("tiny", 2, State.END)
        assert status.status.error_code != 0
        assert status.status.error_message
        assert server.states("tiny")[1].state == State.AVAILABLE
        np.testing.assert_allclose(client.embed(images), mean_colours(images, 1), rtol=1e-5)
        assert server.predict(request_for(images)).model_spec.version.value == 1
        assert client.status()[1] == VersionStatus(2, "END", status.status.error_message)
        assert server.health() == health_pb2.HealthCheckResponse.SERVING

        # One that loads but cannot answer its own warm-up requests is broken as well.
        save_tiny(tmp_path / "tiny" / "3", factor=3)
        until(lambda: server.states("tiny").get(3) and server.states("tiny")[3].state == State.AVAILABLE)
        building = tmp_path / "building"
        save_tiny(building / "tiny" / "4", factor=4)
        warmup = building / "tiny" / "4" / "assets.extra" / "tf_serving_warmup_requests"
        warmup.parent.mkdir()
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.CopyFrom(request_for(random_images(1, 9)))
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(log.SerializeToString())
        (building / "tiny" / "4").rename(tmp_path / "tiny" / "4")
        assert "shape" in server.wait_for_state("tiny", 4, State.END).status.error_message
        assert server.predict(request_for(images)).model_spec.version.value == 3

        # Mended files are noticed.
        warmup = tmp_path / "tiny" / "4" / "assets.extra" / "tf_serving_warmup_requests"
        log.predict_log.request.CopyFrom(request_for(images))
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(log.SerializeToString())
        server.wait_for_state("tiny", 4, State.AVAILABLE)


def test_a_killed_server_that_comes_back_is_used_by_the_same_client(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    images = random_images(2, 8)
    with serving(tmp_path, "tiny") as server, ServingClient(server.target, "tiny") as client:
        expected = client.embed(images)
        for _ in range(2):
            server.kill()
            with pytest.raises(ModelUnavailable, match="UNAVAILABLE"):
                client.embed(images)
            server.start()

            def again() -> npt.NDArray[np.float32] | None:
                try:
                    return client.embed(images)
                except ModelUnavailable:  # and nothing else, or the caller would give up
                    return None

            def answered() -> bool:
                found = again()
                return found is not None and np.array_equal(found, expected)

            until(answered)


def test_calls_that_run_are_finished_before_the_server_stops(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = "work"
    _input(request, np.int32(400), "rounds")
    with serving(tmp_path, "tiny") as server:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(server.channel)
        running = stub.Predict.future(request, timeout=PATIENCE_S)
        server.predict(request_for(ONE))  # behind it on the same connection: once answered, the first has arrived
        server.process.terminate()
        assert running.result().outputs["result"].float_val[0] == 1.0
        assert server.process.wait(PATIENCE_S) == 0


# Config.


def reload(server: Server, *entries: str) -> model_management_pb2.ReloadConfigResponse:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config_text(server.models, *entries), request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(server.channel)
    return stub.HandleReloadConfigRequest(request, timeout=PATIENCE_S)


def test_a_new_config_adds_models_moves_labels_and_drops_models(tmp_path: Path) -> None:
    for name, version in (("tiny", 1), ("tiny", 2), ("other", 5)):
        save_tiny(tmp_path / name / str(version), factor=version)
    images = random_images(1, 8)
    everything = "model_version_policy { all { } }"
    with serving(tmp_path, "tiny model_version_policy { specific { versions: 1 } }") as server:

        def version_of(**choice: Any) -> int:
            return int(server.predict(request_for(images, **choice)).model_spec.version.value)

        assert version_of() == 1
        with pytest.raises(grpc.RpcError, match="not currently available for inference") as caught:
            reload(server, f'tiny {everything} version_labels {{ key: "new" value: 2 }}')
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert version_of() == 1  # a refused config changes nothing

        assert reload(server, f"tiny {everything}", "other").status.error_code == 0
        assert version_of() == 2
        assert version_of(name="other") == 5
        reload(server, f'tiny {everything} version_labels {{ key: "new" value: 2 }}', "other")
        assert version_of(label="new") == 2
        reload(server, f'tiny {everything} version_labels {{ key: "new" value: 1 }}')
        assert version_of(label="new") == 1
        with pytest.raises(grpc.RpcError, match=r"Latest\(other\)"):
            version_of(name="other")

        with pytest.raises(grpc.RpcError, match="did not become available") as caught:
            reload(server, "tiny", "missing")
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        with pytest.raises(grpc.RpcError, match="multiple times") as caught:
            reload(server, "tiny", "tiny")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_changed_config_file_is_followed_when_asked(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    save_tiny(tmp_path / "other" / "5", factor=5)
    with serving(tmp_path, "tiny", flags=("--model_config_file_poll_wait_seconds=0.2",)) as server:
        assert server.states("other") == {}
        (tmp_path / "models.config").write_text("nonsense", "utf-8")
        until(lambda: "is not applied" in server.log)
        assert server.states("tiny")[1].state == State.AVAILABLE
        (tmp_path / "models.config").write_text(config_text(tmp_path, "tiny", "other"), "utf-8")
        server.wait_for_state("other", 5, State.AVAILABLE)


def test_health_needs_every_model(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    (tmp_path / "late").mkdir()
    with serving(tmp_path, "tiny", "late") as server:
        assert server.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.predict(request_for(ONE)).model_spec.version.value == 1
        with ServingClient(server.target, "late") as client, pytest.raises(ModelNotFound):
            client.signature()
        save_tiny(tmp_path / "late" / "1", factor=1)
        until(lambda: server.health() == health_pb2.HealthCheckResponse.SERVING)
        shutil.rmtree(tmp_path / "late" / "1")
        until(lambda: server.health() == health_pb2.HealthCheckResponse.NOT_SERVING)

        # A folder that is gone, as when a mount is lost, takes no model away.
        (tmp_path / "tiny").rename(tmp_path / "elsewhere")
        until(lambda: "its base path cannot be read" in server.log)
        time.sleep(0.5)  # two more looks
        assert server.predict(request_for(ONE)).model_spec.version.value == 1
        assert server.log.count("its base path cannot be read") == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("model_config_list { config {", "cannot read the model config file"),
        ('model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" } }', "absolute path"),
    ],
)
def test_a_server_with_a_bad_config_says_why_and_ends(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "models.config").write_text(config, "utf-8")
    command = [sys.executable, "-m", "services.model_server", f"--model_config_file={tmp_path / 'models.config'}"]
    done = subprocess.run(
        [*command, f"--port={free_port()}"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert message in line


def test_a_taken_port_is_named(tiny: Server) -> None:
    command = [sys.executable, "-m", "services.model_server", f"--model_config_file={tiny.models / 'models.config'}"]
    done = subprocess.run(
        [*command, f"--port={tiny.port}"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{tiny.port}" in done.stderr
    assert tiny.health() == health_pb2.HealthCheckResponse.SERVING
