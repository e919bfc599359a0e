"""Servable: a loaded version of a model, that is its SavedModel in a session, run by signature."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from services.model_server.status import StatusError, failed_precondition, from_number, invalid_argument
from services.model_server.tensors import to_array, write

log = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000

_Step = Callable[..., list[Any]]
"""`Session.run` of a signature's outputs, with everything but the values of its inputs looked up beforehand."""


class Servable:
    """A loaded SavedModel.

    TensorFlow Serving runs SavedModels in a session, and so does this: graph, optimiser and errors are the same.
    Calls may run at the same time. `close` waits for them.
    """

    def __init__(self, name: str, version: int, folder: Path, config: tf.compat.v1.ConfigProto) -> None:
        """Load the SavedModel in `folder` and replay its warm-up requests.

        Raises:
            StatusError: it cannot be loaded, or a warm-up request fails.
        """
        self.name = name
        self.version = version
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._steps: dict[tuple[str, tuple[str, ...]], _Step] = {}
        self._running = 0
        self._idle = threading.Condition()
        try:
            meta_graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(folder))
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = meta_graph.signature_def
            self._warm_up(folder / WARMUP_FILE)
        except tf.errors.OpError as error:
            self._session.close()
            raise from_number(error.error_code, error.message) from error
        except StatusError:
            self._session.close()
            raise
        except Exception as error:  # a damaged SavedModel can raise nearly anything
            self._session.close()
            raise failed_precondition(f"cannot load {folder}: {type(error).__name__}: {error}") from error

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Run the request's signature and return the outputs that it asks for, or all.

        Raises:
            StatusError: the request does not fit the signature, or the run failed.
        """
        key = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if key not in self.signatures:
            raise failed_precondition(f'Serving signature key "{key}" not found.')
        signature = self.signatures[key]
        feeds = _read_inputs(signature, request.inputs)
        outputs = _chosen_outputs(signature, list(request.output_filter))
        try:
            values = self._step(key, outputs)(*feeds)
        except tf.errors.OpError as error:
            raise from_number(error.error_code, error.message) from error
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = key
        for alias, value in zip(outputs, values, strict=True):
            write(np.asarray(value), response.outputs[alias])
        return response

    def acquire(self) -> None:
        """Keep the servable loaded until the matching `release`."""
        with self._idle:
            self._running += 1

    def release(self) -> None:
        """Let the servable be unloaded again, as far as this call is concerned."""
        with self._idle:
            self._running -= 1
            self._idle.notify_all()

    def close(self) -> None:
        """Wait until every `acquire` was followed by its `release`, then free the model's memory."""
        with self._idle:
            self._idle.wait_for(lambda: self._running == 0)
        self._steps.clear()
        self._session.close()

    def _step(self, key: str, outputs: tuple[str, ...]) -> _Step:
        step = self._steps.get((key, outputs))
        if step is None:
            signature = self.signatures[key]
            step = self._session.make_callable(
                [signature.outputs[alias].name for alias in outputs],
                feed_list=[signature.inputs[alias].name for alias in sorted(signature.inputs)],
            )
            self._steps[key, outputs] = step
        return step

    def _warm_up(self, path: Path) -> None:
        if not path.exists():
            return
        count = 0
        for record in tf.data.TFRecordDataset(str(path)).take(MAX_WARMUP_RECORDS).as_numpy_iterator():
            entry = prediction_log_pb2.PredictionLog.FromString(record)
            if entry.WhichOneof("log_type") == "predict_log":
                self.predict(entry.predict_log.request)
                count += 1
            else:
                log.warning("%s has a warm-up request that is no Predict; it is left out", path)
        log.info("model %s version %d: replayed %d warm-up requests", self.name, self.version, count)


def _read_inputs(
    signature: meta_graph_pb2.SignatureDef, given: Mapping[str, tensor_pb2.TensorProto]
) -> list[npt.NDArray[Any]]:
    """Return the signature's inputs in the order of their sorted names.

    Raises:
        StatusError: an input is missing or unknown, or has another type or shape.
    """
    inputs, defaults = signature.inputs, signature.defaults
    if len(given) > len(inputs) or (len(given) < len(inputs) and not defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(inputs)} len({_braced(given)}) != "
            f"len({_braced(inputs)}). Sent extra: {_braced(set(given) - set(inputs))}. "
            f"Missing but required: {_braced(set(inputs) - set(given))}."
        )
    values = []
    for position, alias in enumerate(sorted(inputs)):
        info = inputs[alias]
        if alias not in given and alias not in defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_braced(given)}, or default input alias set: "
                f"{_braced(defaults)}"
            )
        proto = given[alias] if alias in given else defaults[alias]
        if proto.dtype != info.dtype:
            expected, found = _type_name(info.dtype), _type_name(proto.dtype)
            raise invalid_argument(f"Expects arg[{position}] to be {expected} but {found} is provided: input {alias}")
        value = to_array(alias, proto)
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(value.shape):
            raise invalid_argument(f"input {alias} has the shape {value.shape}, which does not fit {shape}")
        values.append(value)
    unknown = set(given) - set(inputs)
    if unknown:
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_braced(set(given) & set(inputs))}, "
            f"request input: {_braced(given)}"
        )
    return values


def _chosen_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the outputs to answer with: those of the filter, or all if it is empty.

    Raises:
        StatusError: a name is unknown or comes twice.
    """
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_braced(signature.outputs)}."
            )
        if alias in output_filter[:position]:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    return tuple(output_filter) or tuple(sorted(signature.outputs))


def _type_name(number: int) -> str:
    """Return the name of a number of tensorflow.DataType: "uint8", "float", …."""
    known = types_pb2.DataType.values()
    return types_pb2.DataType.Name(number).removeprefix("DT_").lower() if number in known else f"type {number}"


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
