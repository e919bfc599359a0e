"""``python -m services.query``: the query service's process."""

from services.query import blas_threads  # noqa: F401 -- first: numpy reads what it sets when it is loaded

# isort: split

from services.query.server import QueryServer
from shared.logs import configure
from shared.settings import load_settings
from shared.stopping import StopSignal


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = load_settings()
    configure(settings.log_level)
    QueryServer(settings).serve(StopSignal())


if __name__ == "__main__":
    main()
