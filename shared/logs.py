"""Logging: one line per record, to standard error, alike in every service."""

import logging

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure(level: str) -> None:
    """Set up the root logger of a service's process."""
    logging.basicConfig(level=level, format=_FORMAT, force=True)
    logging.getLogger("kombu").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of each retry; the last one raises
    # A message that waits for a server comes again each second. Our tasks say once that they wait.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)  # "received"
    _set_filter("celery.app.trace", _NoRejections())
    wait = _BrokerWait()
    _set_filter("celery.worker.consumer.consumer", wait)
    _set_filter("celery.worker.consumer.connection", wait)


class _NoRejections(logging.Filter):
    """Passes over the stack trace that Celery logs for each message that goes back to its queue."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = getattr(record, "data", None)
        return not (isinstance(context, dict) and context.get("description") == "rejected")


class _BrokerWait(logging.Filter):
    """Passes only the first of Celery's lines that say that the broker cannot be reached, until it can."""

    def __init__(self) -> None:
        super().__init__()
        self._waits = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if text.startswith("Connected to"):
            self._waits = False
        elif "Cannot connect to" in text:
            waited, self._waits = self._waits, True
            return not waited
        return True


def _set_filter(name: str, chosen: logging.Filter) -> None:
    """Give a logger a filter in place of the one of its class that an earlier call set."""
    logger = logging.getLogger(name)
    for kept in [kept for kept in logger.filters if type(kept) is type(chosen)]:
        logger.removeFilter(kept)
    logger.addFilter(chosen)
