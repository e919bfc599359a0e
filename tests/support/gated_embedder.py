"""An embedder for tests: ``celery -A tests.support.gated_embedder worker``. Its model answers when a test lets it.

The model pushes the process's id to the list ``at-model`` of the index, and waits for an element of ``go:<id>``. The
process dies of an image whose digest is in the set ``deadly``. Time-outs are short.
"""

import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.embedder import app as embedder_app
from shared.images import DirectDecoder, ImageInfo
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.serving import ModelSignature
from shared.settings import Settings
from shared.state import attempts, connect
from shared.storage import layout
from tests.support.gates import DIM, SILENCE_S

_index = connect(embedder_app._settings.index_url.get_secret_value(), timeout_s=300)


class _Model:
    def signature(self) -> ModelSignature:
        return ModelSignature("gated", 1, 8, DIM)

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        _index.rpush("at-model", os.getpid())
        _index.blpop(f"go:{os.getpid()}")
        return np.ones((len(images), DIM), dtype=np.float32)


def _connect_model(model: str, version: int | None) -> Any:  # noqa: ARG001
    return _Model()


def _connected(*values: Any, **more: Any) -> WorkerClients:
    return replace(connect_worker(*values, **more), connect_model=_connect_model)


class _DeadlyDecoder(DirectDecoder):
    def decode(self, data: Any, **options: Any) -> tuple[npt.NDArray[np.uint8], ImageInfo]:
        if _index.sismember("deadly", layout.digest_of(data)):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().decode(data, **options)

    @classmethod
    def from_settings(cls, settings: Settings) -> "_DeadlyDecoder":  # noqa: ARG003
        return cls()


attempts.LEASE_S = SILENCE_S
setattr(embedder_app, "connect_worker", _connected)  # noqa: B010 -- nor this
setattr(embedder_app, "DecoderPool", _DeadlyDecoder)  # noqa: B010 -- it is not the module's own
app = embedder_app.app
app.conf.broker_transport_options["visibility_timeout"] = SILENCE_S
app.conf.broker_transport_options["unacked_restore_interval"] = SILENCE_S / 5
