"""Images a second of the model server, by cores, threads of an operation, calls at a time, with oneDNN and without.

    python -m benchmarks.model_server [--rounds 3] [--seconds 3]

Each server has its own number of cores; all are up and measured in turn, so that a machine that slows down flatters
none. Batches are of 32 images, as the embedder sends them. `of the best` is beside the best of the same cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from benchmarks.machine import cores_of_processor, shares_of_best
from benchmarks.system import MODELS, export_models
from local.ports import FreePorts
from shared.errors import Unavailable
from shared.rpc.serving import ModelNotFound, ServingClient
from shared.tensorflow_runtime import ONEDNN_VARIABLE

_BATCH: Final = 32
_MODEL: Final = "efficientnet-lite0"
_READY_S: Final = 120.0


@dataclass(frozen=True, order=True)
class Server:
    """How a model server runs: its cores, the threads of an operation, and whether TensorFlow uses oneDNN."""

    cores: int
    threads: int
    onednn: bool = True


def main() -> None:
    """Print a table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    options = parser.parse_args()
    export_models()
    rates: defaultdict[tuple[Server, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch, ExitStack() as running:
        clients = {
            server: running.enter_context(_running(server, Path(scratch) / f"{place}.config"))
            for place, server in enumerate(_servers(len(os.sched_getaffinity(0))))
        }
        for _ in range(options.rounds):
            for server, client in clients.items():
                for calls in _calls(server):
                    rates[server, calls].append(_rate(client, calls, options.seconds))
    sys.stdout.write(f"{cores_of_processor()}\n\n")
    sys.stdout.write(_table({setting: median(found) for setting, found in rates.items()}))


def _servers(cores: int) -> list[Server]:
    """Return the servers to measure on 1, 2, 4, … cores and on all of them."""
    some = sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})
    on = [Server(count, threads) for count in some for threads in sorted({1, count})]
    return [*on, Server(cores, cores, onednn=False)]


def _calls(server: Server) -> list[int]:
    """Return how many calls at a time a server is measured with."""
    return sorted({1, 2, server.cores, 2 * server.cores})


@contextmanager
def _running(server: Server, config: Path) -> Iterator[ServingClient]:
    """Run a server on the first cores of this process; gives a client that has had an answer."""
    config.write_text(
        f'model_config_list {{ config {{ name: "{_MODEL}" base_path: "{MODELS / _MODEL}" '
        'model_platform: "tensorflow" } }\n'
    )
    port = FreePorts({}).take("benchmark")
    cores = sorted(os.sched_getaffinity(0))
    command = [
        *(sys.executable, "-m", "services.model_server", f"--model_config_file={config}", f"--port={port}"),
        f"--tensorflow_intra_op_parallelism={server.threads}",
    ]
    os.sched_setaffinity(0, cores[: server.cores])  # which the server inherits
    try:
        environment = {**os.environ, ONEDNN_VARIABLE: str(int(server.onednn)), "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    finally:
        os.sched_setaffinity(0, cores)
    try:
        with ServingClient(f"127.0.0.1:{port}", _MODEL) as client:
            _wait_until_ready(client, process)
            yield client
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(client: ServingClient, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _READY_S
    while True:
        try:
            client.embed(_images(client))
        except (Unavailable, ModelNotFound):
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _images(client: ServingClient) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    size = client.signature().input_size
    return np.random.default_rng(0).integers(0, 256, (_BATCH, size, size, 3), dtype=np.uint8)


def _rate(client: ServingClient, calls: int, seconds: float) -> float:
    """Return the images a second of so many threads, each of which sends one batch after another."""
    images, done = _images(client), [0] * calls
    until = time.perf_counter() + seconds

    def send(place: int) -> None:
        while time.perf_counter() < until:
            client.embed(images)
            done[place] += _BATCH

    began = time.perf_counter()
    threads = [threading.Thread(target=send, args=(place,)) for place in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def _table(rates: dict[tuple[Server, int], float]) -> str:
    shares = shares_of_best(rates, lambda setting: setting[0].cores)
    lines = ["| cores | threads of an operation | oneDNN | calls at a time | images a second | of the best |"]
    lines.append("|---|---|---|---|---|---|")
    for (server, calls), rate in sorted(rates.items()):
        lines.append(
            f"| {server.cores} | {server.threads} | {'on' if server.onednn else 'off'} | {calls} | {rate:.1f} "
            f"| {shares[server, calls]:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
