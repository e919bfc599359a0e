"""The client side of TensorFlow Serving's gRPC API, without TensorFlow."""

from shared.rpc.serving.client import ModelSignature, ServingClient
from shared.rpc.serving.errors import ModelNotFound, ModelRefused, ModelUnavailable, ServingError

__all__ = ["ModelNotFound", "ModelRefused", "ModelSignature", "ModelUnavailable", "ServingClient", "ServingError"]
