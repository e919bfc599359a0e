"""TensorFlow Serving's gRPC API for machines without TensorFlow Serving: the same SavedModels, the same answers."""
