"""Images a second of an exported model, with oneDNN and without: TensorFlow decides on it once, when it is loaded.

So each way has a process of its own, which measures one model after the other.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from shared.errors import ArtseekError
from shared.tensorflow_runtime import ONEDNN_VARIABLE, import_quietly
from training.manifest import read_manifest

_BATCH: Final = 32  # as the embedder sends them
_TIMED: Final = 8  # batches


class SpeedProcess:
    """A process that measures models, with oneDNN or without. It ends with the block that it is entered for."""

    def __init__(self, *, onednn: bool) -> None:
        """Start it."""
        environment = {**os.environ, ONEDNN_VARIABLE: str(int(onednn)), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "benchmarks.model_speed"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # which ends its input, and so the process

    def images_per_second(self, folder: Path) -> float:
        """Return the images a second of the model version in a folder, in batches of 32.

        Raises:
            ArtseekError: The process ended; it has said why.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 -- both are pipes
        assert stdout is not None  # noqa: S101
        stdin.write(json.dumps(str(folder)) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise ArtseekError(f"the process that measures models ended at {folder}: see above")
        return float(answer)


def _measure(folder: Path) -> float:
    embed = import_quietly("training.savedmodel").saved_model_embed(folder)
    size = int(read_manifest(folder)["input_size"])
    noise = np.random.default_rng(0).integers(0, 256, (_BATCH, size, size, 3), dtype=np.uint8)
    embed(noise)
    times = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        embed(noise)
        times.append(time.perf_counter() - started)
    return _BATCH / float(np.median(times))


if __name__ == "__main__":
    for line in sys.stdin:
        print(_measure(Path(json.loads(line))), flush=True)
