"""Heartbeats: how the workers, which listen on no port, say that they are alive."""

import logging
import threading
import time
from collections.abc import Callable

from shared.errors import Unavailable
from shared.state.connection import Client, guarded
from shared.waits import WaitLog

INTERVAL_S = 5.0
_KEY = "heartbeats"


def start(client: Client, service: str) -> Callable[[], None]:
    """Write the time of this service into the index every few seconds, on a thread of its own.

    Returns a function that ends the thread.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=_beat, args=(client, service, stopped), name="heartbeat", daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join()

    return stop


def _beat(client: Client, service: str, stopped: threading.Event) -> None:
    wait_log = WaitLog(logging.getLogger(__name__), f"the heartbeat of the {service}")
    while not stopped.is_set():
        try:
            with guarded():
                client.hset(_KEY, service, repr(time.time()))
            wait_log.goes_on()
        except Unavailable as error:
            wait_log.waits(error)
        stopped.wait(INTERVAL_S)


def beats(client: Client) -> dict[str, float]:
    """Return for each service that ever beat how many seconds ago it last did."""
    with guarded():
        found = client.hgetall(_KEY)
    now = time.time()
    return {service.decode(): max(0.0, now - float(at)) for service, at in found.items()}
