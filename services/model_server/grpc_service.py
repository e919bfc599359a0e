"""The gRPC services of TensorFlow Serving, answered from a `ServableManager`."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from services.model_server.config import model_list
from services.model_server.manager import ServableManager
from services.model_server.status import StatusError, invalid_argument, not_found

log = logging.getLogger(__name__)

METADATA_FIELD = "signature_def"

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _answering(method: _Method) -> _Method:
    """Answer a StatusError of a service's method with that status."""

    @functools.wraps(method)
    def answer(self: object, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except StatusError as error:
            context.abort(error.code, error.message)

    return answer  # type: ignore[return-value]


def _with_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Runs models. Of its methods, those that take tf.Example records are not offered."""

    def __init__(self, manager: ServableManager) -> None:
        self._manager = manager

    @_answering
    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run a signature of a model."""
        spec = _with_spec(request)
        if not context.is_active():
            raise StatusError(grpc.StatusCode.CANCELLED, "the client no longer waits")
        with self._manager.using(spec) as servable:
            return servable.predict(request)

    @_answering
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, _context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a model."""
        spec = _with_spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.using(spec) as servable:
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
        response.metadata[METADATA_FIELD].Pack(signatures)
        return response

    @_answering
    def Classify(self, _request: object, _context: grpc.ServicerContext) -> NoReturn:
        """Refuse: the signature would have to take serialised tf.Example records."""
        raise _unimplemented("Classify")

    @_answering
    def Regress(self, _request: object, _context: grpc.ServicerContext) -> NoReturn:
        """Refuse, for the same reason."""
        raise _unimplemented("Regress")

    @_answering
    def MultiInference(self, _request: object, _context: grpc.ServicerContext) -> NoReturn:
        """Refuse, for the same reason."""
        raise _unimplemented("MultiInference")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """Reports the state of every version, and takes a new model config."""

    def __init__(self, manager: ServableManager) -> None:
        self._manager = manager

    @_answering
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, _context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of one version of a model, or of all."""
        spec = _with_spec(request)
        states = self._manager.states(spec.name)
        if spec.WhichOneof("version_choice") == "version":
            version = spec.version.value
            if version not in states:
                raise not_found(f"Could not find version {version} of model {spec.name}")
            states = {version: states[version]}
        if not states:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, (state, error) in sorted(states.items(), reverse=True):
            entry = response.model_version_status.add(version=number, state=state)
            entry.status.error_code = error.number if error else 0
            entry.status.error_message = error.message if error else ""
        return response

    @_answering
    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, _context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serve other models, and answer when they are loaded."""
        self._manager.apply(model_list(request.config))
        missing = self._manager.missing()
        if missing:
            message = f"{len(missing)} model(s) did not become available: {{{', '.join(missing)}}}"
            raise StatusError(grpc.StatusCode.UNKNOWN, message)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _unimplemented(method: str) -> StatusError:
    return StatusError(
        grpc.StatusCode.UNIMPLEMENTED, f"{method} is not offered by this server; use Predict, or TensorFlow Serving"
    )
