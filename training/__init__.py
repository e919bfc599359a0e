"""Building, checking and exporting the embedding models."""

from shared.tensorflow_runtime import enable_onednn

enable_onednn()
