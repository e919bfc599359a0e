"""``python -m services.query``: the query service, in one process or as the supervisor of several."""

from services.query import blas_threads  # noqa: F401 -- first: numpy reads its environment when it is loaded

# isort: split

from services.query.processes.process_count import process_count
from shared.logs import configure
from shared.settings import load_settings
from shared.stopping import StopSignal
from shared.system_identity import check_own_system_soon


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = load_settings()
    configure(settings.log_level)
    stop = StopSignal()
    check_own_system_soon(settings, None)  # it has nothing to do with the broker
    count = process_count(settings.query_processes)
    # Imported here, since a supervisor does without all that searches need.
    if count > 1:
        from services.query.processes.supervisor import Supervisor  # noqa: PLC0415

        Supervisor(settings, count).run(stop)
    else:
        from services.query.server import make_server  # noqa: PLC0415

        make_server(settings).run(stop)


if __name__ == "__main__":
    main()
