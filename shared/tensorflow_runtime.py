"""Imports TensorFlow without its start-up chatter, for programs whose standard error people read."""

import logging
import os
import sys
import tempfile
from importlib import import_module
from types import ModuleType


def import_quietly(name: str) -> ModuleType:
    """Import a module that imports TensorFlow, and drop what its C++ part writes to standard error meanwhile.

    TensorFlow writes notes about CPU features before any log level applies, straight to the file descriptor. If the
    import fails, what was written is passed on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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
