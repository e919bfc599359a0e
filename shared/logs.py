"""Logging: one line per record, to standard error, alike in every service."""

import logging

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure(level: str) -> None:
    """Set up the root logger of a service's process."""
    logging.basicConfig(level=level, format=_FORMAT, force=True)
    logging.getLogger("kombu").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of each retry; the last one raises
