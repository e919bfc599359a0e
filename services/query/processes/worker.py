"""``python -m services.query.processes.worker FOLDER NUMBER COUNT``: one process of a query service that has several.

Its standard input is a pipe from the supervisor, which says nothing: it ends when the supervisor does.
"""

from services.query import blas_threads  # noqa: F401 -- first: numpy reads its environment when it is loaded

# isort: split

import os
import sys
import threading
from pathlib import Path

from prometheus_client import values

from services.query.processes.process_group import ProcessGroup
from services.query.server import make_server
from shared.logs import configure
from shared.settings import load_settings
from shared.stopping import StopSignal


def main() -> None:
    """Serve until SIGTERM or SIGINT, or the end of the supervisor."""
    folder, number, count = sys.argv[1:]
    group = ProcessGroup(Path(folder), int(number), int(count))
    settings = load_settings()
    configure(settings.log_level)
    stop = StopSignal()
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    # A process that takes the place of a dead one goes on with its counts.
    values.ValueClass = values.MultiProcessValue(lambda: group.number)  # type: ignore[no-untyped-call]
    make_server(settings, group).run(stop)


def _end_with_supervisor() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)  # at once: nobody would start a process in its place, or stop it, and it has nothing that can be lost


if __name__ == "__main__":
    main()
