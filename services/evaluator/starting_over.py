"""Starts an evaluation over whose collection has changed under its hands, so that one of its images is gone."""

import logging
from collections.abc import Callable

from shared.errors import NotFound

STARTS = 5
"""How often an evaluation is begun before its end tells what is gone."""

_log = logging.getLogger(__name__)


def until_unchanged(evaluate: Callable[[], None], state: Callable[[], object]) -> None:
    """Evaluate, and begin again if something is not found and the collection's state is another than before.

    Raises:
        NotFound: Something is gone that the collection never had, or it changed at each of `STARTS` starts.
    """
    for start in range(1, STARTS + 1):
        before = state()
        try:
            evaluate()
        except NotFound as error:
            if start == STARTS or state() == before:
                raise
            _log.info("the collection has changed, and the evaluation starts over: %s", error)
        else:
            return
