"""A web service of a test's own, in this process, on the servers of a running system."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from services.web.server import make_server
from shared.settings import Settings


@contextmanager
def served_web(settings: Settings) -> Iterator[None]:
    """Serve the pages and the API over the block, where the settings say."""
    server, ended = make_server(settings), threading.Event()
    thread = threading.Thread(target=server.run, args=(ended.is_set,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        server.wake()
        thread.join()
