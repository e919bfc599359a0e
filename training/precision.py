"""The precision that a network computes in: single or mixed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras

Precision = Literal["single", "mixed"]


def set_precision(requested: str) -> Precision:
    """Set the precision of new layers to "single", "mixed", or with "auto" to mixed where there is a GPU; returns it.

    Mixed means float16 for what is computed and float32 for what is learned (Micikevicius et al. 2018,
    https://arxiv.org/abs/1710.03740). Processors have no fast float16, so on them it would only lose time.
    """
    mixed = requested == "mixed" or (requested == "auto" and has_gpu())
    keras.config.set_dtype_policy("mixed_float16" if mixed else "float32")
    return "mixed" if mixed else "single"


def has_gpu() -> bool:
    """Return whether the library that Keras runs on sees a GPU."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf  # noqa: PLC0415 -- only the library in use may be imported

            return bool(tf.config.list_physical_devices("GPU"))
        case "torch":
            import torch  # noqa: PLC0415

            return bool(torch.cuda.is_available())
        case "jax":
            import jax  # noqa: PLC0415

            return any(device.platform == "gpu" for device in jax.devices())
    return False


@contextmanager
def full_single_precision() -> Iterator[None]:
    """Have float32 computed as float32, where JAX and PyTorch on a GPU would take the shorter TensorFloat-32."""
    match keras.backend.backend():
        case "torch":
            import torch  # noqa: PLC0415

            with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
                yield
        case "jax":
            import jax  # noqa: PLC0415

            with jax.default_matmul_precision("highest"):
                yield
        case _:
            yield
