"""TensorFlow Serving's gRPC API for machines without TensorFlow Serving: the same SavedModels, the same answers."""

from shared.tensorflow_runtime import enable_onednn

enable_onednn()
