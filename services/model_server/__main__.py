"""Runs the model server: `python -m services.model_server --model_config_file=…`, with TensorFlow Serving's flags."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from services.model_server.config import read_config
from services.model_server.status import StatusError
from shared.parallelism import Parallelism
from shared.tensorflow_runtime import import_without_keras
from shared.usable_cores import usable_cores

log = logging.getLogger("services.model_server")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags as they are named in `services.model_server.server.Options`."""
    parser = argparse.ArgumentParser(
        prog="python -m services.model_server", description="Serve SavedModels through TensorFlow Serving's gRPC API."
    )
    add = parser.add_argument
    add("--model_config_file", type=Path, required=True, help="ModelServerConfig in protobuf text format")
    add("--port", type=int, default=8500, help="port of the gRPC API (default: 8500)")
    add(
        "--ssl_config_file",
        type=Path,
        help="SSLConfig in protobuf text format, with the PEM texts server_key, server_cert, custom_ca, and "
        "client_verify: true to ask clients for certificates; default: no TLS",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--file_system_poll_wait_seconds", type=float, default=1.0, help="0: look for versions only once")
    add("--model_config_file_poll_wait_seconds", type=float, default=0.0, help="0: read the config only once")
    add("--tensorflow_intra_op_parallelism", type=int, default=0, help="threads of one operation; 0: one per core")
    add("--tensorflow_inter_op_parallelism", type=int, default=0, help="operations at a time; 0: one per core")
    add("--grpc_max_threads", type=int, default=0, help="requests at a time; 0: 4 per core, and 8 at the least")
    add(
        "--allow_version_labels_for_unavailable_models",
        type=_boolean,
        nargs="?",
        const=True,
        default=False,
        help="whether a new label may name a version that is not loaded yet (default: false)",
    )
    options = parser.parse_args(arguments)
    # TensorFlow itself counts the cores of the machine, whatever a container may use of them.
    by_cores = Parallelism.of_cores(usable_cores())
    options.tensorflow_intra_op_parallelism = options.tensorflow_intra_op_parallelism or by_cores.model_threads
    options.tensorflow_inter_op_parallelism = options.tensorflow_inter_op_parallelism or by_cores.model_calls
    options.grpc_max_threads = options.grpc_max_threads or by_cores.model_requests
    return options


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"{text!r}, expected true or false")
    return text.lower() == "true"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        read_config(options.model_config_file)  # what is wrong with it is told before TensorFlow is loaded
        server = import_without_keras("services.model_server.server")
        server.ModelServer(server.Options(**vars(options))).run(stop)
    except (StatusError, RuntimeError) as error:
        log.error("%s", error)
        return 1
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
