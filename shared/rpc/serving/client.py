"""A client of TensorFlow Serving that knows one model: images in, embeddings out.

It needs neither TensorFlow nor its protobuf modules, whose import costs a process seconds and half a gigabyte.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar, cast

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from shared.errors import Invalid
from shared.rpc.serving import serving_pb2 as pb
from shared.rpc.serving.errors import ModelRefused, ServingError, from_grpc
from shared.rpc.tls import GrpcTls, Options, open_channel

SIGNATURE: Final = "serving_default"
INPUT: Final = "images"
OUTPUT: Final = "embeddings"

_Answer = TypeVar("_Answer", bound=Message)

_CHANNEL_OPTIONS: Final[Options] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


@dataclass(frozen=True)
class ModelSignature:
    """What the served model takes and gives."""

    model: str
    version: int
    input_size: int
    """Height and width of the images, in pixels."""
    dim: int
    """Length of an embedding."""


@dataclass(frozen=True)
class VersionStatus:
    """How far the server has come with a version of the model."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error: str
    """Why it ended; empty if nothing went wrong."""


class ServingClient:
    """Embeds images with one version of one model.

    A model version is an embedding space: vectors of two versions must not be mixed. A client therefore stays with one.
    Without `version`, the first call finds out which version is the latest (or has the label), and the client holds to
    it; once the server has unloaded that version, calls raise `ModelNotFound`, and a new client finds the new one.

    The channel is opened by the first call, so a client may be made before a process forks. It is safe to share among
    threads. Every call raises the errors of `shared.rpc.serving.errors`.
    """

    def __init__(
        self,
        target: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 30.0,
        max_batch: int = 32,
        tls: GrpcTls | None = None,
    ) -> None:
        """Remember what to reach; connects to nothing yet.

        Args:
            target: host:port of the server's gRPC API.
            model: name of the served model.
            version: version to use; default: the one with `label`, or else the latest.
            label: version label to look up.
            timeout_s: seconds that a call may take as a whole.
            max_batch: images sent in one request.
            tls: certificates of the channel; None: it goes without TLS.
        """
        if version is not None and label is not None:
            raise Invalid(f"version {version} and label {label!r} are both given, expected one of them")
        if max_batch < 1:
            raise Invalid(f"max_batch is {max_batch}, expected 1 or more")
        self.target = target
        self.model = model
        self._version = version
        self._label = label
        self._timeout_s = timeout_s
        self._max_batch = max_batch
        self._tls = tls
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._signature: ModelSignature | None = None

    def embed(self, images: npt.NDArray[np.uint8], timeout_s: float | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of images of the size that `signature` names.

        Args:
            images: uint8 [n, input_size, input_size, 3], RGB.
            timeout_s: seconds that all of it may take; default: the client's.

        Returns:
            float32 [n, dim], by the model version of `signature`.

        Raises:
            ModelRefused: the images have another type or shape.
            ServingError: the server failed; see `shared.rpc.serving.errors`.
        """
        deadline = self._deadline(timeout_s)
        signature = self._resolve(deadline)
        expected = (signature.input_size, signature.input_size, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise ModelRefused(
                f"images are {images.dtype} {images.shape}, expected uint8 (n, {', '.join(map(str, expected))})"
            )
        embeddings = np.empty((len(images), signature.dim), np.float32)
        for start in range(0, len(images), self._max_batch):
            batch = images[start : start + self._max_batch]
            embeddings[start : start + len(batch)] = self._predict(batch, signature, deadline)
        return embeddings

    def signature(self, timeout_s: float | None = None) -> ModelSignature:
        """Return what the model takes and gives; asks the server once, then remembers.

        Raises:
            ModelRefused: the model is served, but is none that turns uint8 images into float32 embeddings.
            ServingError: the server failed; see `shared.rpc.serving.errors`.
        """
        return self._resolve(self._deadline(timeout_s))

    def status(self, timeout_s: float | None = None) -> list[VersionStatus]:
        """Return how far the server has come with each version of the model that it knows, oldest first."""
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self.model))
        answer = self._call(
            "ModelService/GetModelStatus", request, pb.GetModelStatusResponse, self._deadline(timeout_s)
        )
        found = (
            VersionStatus(entry.version, pb.ModelVersionStatus.State.Name(entry.state), entry.status.error_message)
            for entry in answer.model_version_status
        )
        return sorted(found, key=lambda entry: entry.version)

    def close(self) -> None:
        """Close the channel; a later call opens a new one."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deadline(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)

    def _resolve(self, deadline: float) -> ModelSignature:
        if self._signature is None:
            spec = pb.ModelSpec(name=self.model)
            if self._version is not None:
                spec.version.value = self._version
            elif self._label is not None:
                spec.version_label = self._label
            request = pb.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
            answer = self._call("PredictionService/GetModelMetadata", request, pb.GetModelMetadataResponse, deadline)
            signature = _read_signature(answer)
            with self._lock:
                # Whoever was first decides: two threads must not hold to two versions.
                self._signature = self._signature or signature
        return self._signature

    def _predict(
        self, batch: npt.NDArray[np.uint8], signature: ModelSignature, deadline: float
    ) -> npt.NDArray[np.float32]:
        request = pb.PredictRequest(output_filter=[OUTPUT])
        request.model_spec.name = self.model
        request.model_spec.version.value = signature.version
        request.model_spec.signature_name = SIGNATURE
        tensor = request.inputs[INPUT]
        tensor.dtype = pb.DT_UINT8
        for size in batch.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = batch.tobytes()
        answer = self._call("PredictionService/Predict", request, pb.PredictResponse, deadline)
        answered = answer.model_spec.version.value
        if answered != signature.version:
            raise ServingError(
                f"model {self.model} at {self.target}: version {answered} answered, expected {signature.version}"
            )
        return _read_floats(answer.outputs[OUTPUT], (len(batch), signature.dim))

    def _call(self, method: str, request: Message, answer: type[_Answer], deadline: float) -> _Answer:
        call = self._open().unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return cast("_Answer", call(request, timeout=max(0.0, deadline - time.monotonic())))
        except grpc.RpcError as error:
            raise from_grpc(error, self.target, self.model) from error

    def _open(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                self._channel = open_channel(self.target, self._tls, _CHANNEL_OPTIONS)
            return self._channel


def _read_signature(answer: pb.GetModelMetadataResponse) -> ModelSignature:
    model, version = answer.model_spec.name, answer.model_spec.version.value
    # The Any names the official type; ours reads the same bytes.
    signatures = pb.SignatureDefMap.FromString(answer.metadata["signature_def"].value).signature_def
    if SIGNATURE not in signatures:
        raise ModelRefused(f"model {model} version {version} has no signature {SIGNATURE}, only {sorted(signatures)}")
    inputs, outputs = signatures[SIGNATURE].inputs, signatures[SIGNATURE].outputs
    taken, given = inputs[INPUT], outputs[OUTPUT]
    image = [dim.size for dim in taken.tensor_shape.dim]
    embedding = [dim.size for dim in given.tensor_shape.dim]
    fits = (
        taken.dtype == pb.DT_UINT8
        and given.dtype == pb.DT_FLOAT
        and (len(image), len(embedding)) == (4, 2)
        and (image[1], image[3]) == (image[2], 3)
        and min(image[1], embedding[1]) > 0
    )
    if not fits:
        raise ModelRefused(
            f"model {model} version {version} takes {_describe(inputs)} and gives {_describe(outputs)}; expected "
            f"{INPUT} DT_UINT8 [-1, size, size, 3] and {OUTPUT} DT_FLOAT [-1, dim], as training.export writes"
        )
    return ModelSignature(model, version, input_size=image[1], dim=embedding[1])


def _describe(tensors: Mapping[str, pb.TensorInfo]) -> str:
    return ", ".join(
        f"{name} {pb.DataType.Name(info.dtype) if info.dtype in pb.DataType.values() else info.dtype} "
        f"{[dim.size for dim in info.tensor_shape.dim]}"
        for name, info in sorted(tensors.items())
        if info.dtype
    )


def _read_floats(tensor: pb.Tensor, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the values of a tensor; the server may send them as bytes or one by one."""
    found = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype != pb.DT_FLOAT or found != shape:
        raise ServingError(
            f"the model answered {OUTPUT} of type {tensor.dtype} and shape {found}, expected DT_FLOAT {shape}"
        )
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, "<f4")
    else:
        values = np.fromiter(tensor.float_val, np.float32, len(tensor.float_val))
    if values.size != shape[0] * shape[1]:
        raise ServingError(f"the model answered {values.size} values, expected {shape[0] * shape[1]} for shape {shape}")
    return values.reshape(shape)
