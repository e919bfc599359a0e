"""The model server as a process, with tiny models that are made on the spot."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.processes import free_port

Images = npt.NDArray[np.uint8]
State = get_model_status_pb2.ModelVersionStatus


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
class ModelServerProcess:
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
        return eventually(lambda: (found := self.states(name).get(version)) and found.state == state and found)

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
        eventually(self._is_open)

    def _is_open(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def serving(models: Path, *entries: str, flags: tuple[str, ...] = ()) -> Iterator[ModelServerProcess]:
    """Run a server of the models in a folder, and end it by SIGTERM, which must succeed."""
    (models / "models.config").write_text(config_text(models, *entries), "utf-8")
    port = free_port()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        server = ModelServerProcess(models, port, process=None, channel=channel, flags=list(flags))  # type: ignore[arg-type]
        server.start()
        try:
            yield server
            server.process.terminate()
            assert server.process.wait(PATIENCE_S) == 0, server.log
        finally:
            if server.process.poll() is None:
                server.kill()


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
