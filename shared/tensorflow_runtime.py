"""How our programs start TensorFlow: with oneDNN on every processor, and without its messages at start."""

import logging
import os
import sys
import tempfile
from importlib import import_module
from types import ModuleType
from typing import Final

ONEDNN_VARIABLE: Final = "TF_ENABLE_ONEDNN_OPTS"
_LOG_LEVEL_VARIABLE: Final = "TF_CPP_MIN_LOG_LEVEL"


def enable_onednn() -> None:
    """Let TensorFlow compute with oneDNN, unless the environment says otherwise; call it before TensorFlow is loaded.

    TensorFlow turns oneDNN on by itself for some Intel processors only. Others gain as much: on an AMD Zen 3 the
    default model takes half the time. Every package of ours that imports TensorFlow or Keras calls this first.
    """
    os.environ.setdefault(ONEDNN_VARIABLE, "1")


def import_quietly(name: str) -> ModuleType:
    """Import a module that imports TensorFlow, and hold back what TensorFlow writes to standard error meanwhile.

    TensorFlow writes notes about CPU features before any log level applies, straight to the file descriptor. If the
    import fails, what was written is passed on.
    """
    return _import(name)


def _import(name: str) -> ModuleType:
    enable_onednn()
    os.environ.setdefault(_LOG_LEVEL_VARIABLE, "2")
    for logger in ("tensorflow", "absl"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    sys.stderr.flush()
    descriptor = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            return import_module(name)
        except BaseException:
            held.seek(0)
            os.write(descriptor, held.read())
            raise
        finally:
            os.dup2(descriptor, 2)
            os.close(descriptor)


def import_without_keras(name: str) -> ModuleType:
    """Import a module that imports TensorFlow, like `import_quietly`, but keep TensorFlow from loading Keras.

    TensorFlow loads Keras, and Keras loads Matplotlib, for those who train. To serve a SavedModel needs neither, and
    starts sooner without. Where Keras is loaded already, it stays.
    """
    absent = "keras" not in sys.modules
    if absent:
        # As Python marks what cannot be imported.
        sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        return _import(name)
    finally:
        if absent:
            del sys.modules["keras"]
