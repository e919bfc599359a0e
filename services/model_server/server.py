"""The model server: gRPC services and health, and the loop that follows the config file and the models' folders."""

import logging
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc
import tensorflow as tf
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from services.model_server.config import read_config
from services.model_server.grpc_service import ModelService, PredictionService
from services.model_server.manager import ServableManager
from services.model_server.ssl_config import read_credentials
from services.model_server.status import StatusError

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""Seconds that running calls are given when the server stops."""


@dataclass(frozen=True)
class Options:
    """The options of the command line; their names are those of TensorFlow Serving's flags."""

    model_config_file: Path
    port: int
    ssl_config_file: Path | None
    host: str
    file_system_poll_wait_seconds: float
    model_config_file_poll_wait_seconds: float
    tensorflow_intra_op_parallelism: int
    tensorflow_inter_op_parallelism: int
    grpc_max_threads: int
    allow_version_labels_for_unavailable_models: bool


class ModelServer:
    """Serves the models of a config file over gRPC."""

    def __init__(self, options: Options) -> None:
        """Prepare everything; nothing is loaded or opened yet."""
        self._options = options
        self._health = health.HealthServicer()
        self._manager = ServableManager(
            tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=options.tensorflow_intra_op_parallelism,
                inter_op_parallelism_threads=options.tensorflow_inter_op_parallelism,
            ),
            labels_before_versions=options.allow_version_labels_for_unavailable_models,
            on_change=self._update_health,
        )
        self._server = grpc.server(
            futures.ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="grpc"),
            options=(
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                # Otherwise a second server on the port would start, and get every other call.
                ("grpc.so_reuseport", 0),
            ),
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self._manager), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._manager), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def run(self, stop: threading.Event) -> None:
        """Load the models, then answer calls until `stop` is set.

        As with TensorFlow Serving the port opens once the models are loaded, so that until then clients are told to
        come again (UNAVAILABLE) and not that there is no such model.

        Raises:
            StatusError: a config does not fit, or a label names a version that cannot be served.
            RuntimeError: the port is taken.
        """
        options = self._options
        text = options.model_config_file.read_bytes() if options.model_config_file.exists() else b""
        self._manager.apply(read_config(options.model_config_file))
        for missing in self._manager.missing():
            log.error("no version of a model can be served: %s", missing)
        address = f"{options.host}:{options.port}"
        credentials = None if options.ssl_config_file is None else read_credentials(options.ssl_config_file)
        try:
            if credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise RuntimeError(
                f"cannot listen on {address}: {error}; choose another --port or stop its user"
            ) from error
        self._server.start()
        log.info("listening on %s", address)
        self._follow(stop, text)
        self._health.enter_graceful_shutdown()
        self._server.stop(GRACE_S).wait()
        self._manager.close()

    def _follow(self, stop: threading.Event, text: bytes) -> None:
        """Look at the folders and at the config file, each after its own time, until `stop` is set."""
        options = self._options
        pauses = {
            "folders": options.file_system_poll_wait_seconds,
            "config": options.model_config_file_poll_wait_seconds,
        }
        due = {what: time.monotonic() + pause for what, pause in pauses.items() if pause > 0}
        while not stop.wait(max(0.0, min(due.values()) - time.monotonic()) if due else None):
            now = time.monotonic()
            for what in [what for what, moment in due.items() if moment <= now]:
                if what == "folders":
                    self._manager.poll()
                else:
                    text = self._reread(text)
                due[what] = time.monotonic() + pauses[what]

    def _reread(self, text: bytes) -> bytes:
        path = self._options.model_config_file
        try:
            found = path.read_bytes()
            if found != text:
                self._manager.apply(read_config(path))
                log.info("applied the changed config file %s", path)
        except (OSError, StatusError) as error:
            log.error("the config file %s is not applied: %s", path, error)
            return text
        return found

    def _update_health(self) -> None:
        ready = not self._manager.missing()
        status = health_pb2.HealthCheckResponse
        self._health.set("", status.SERVING if ready else status.NOT_SERVING)
