"""An evaluator for tests: ``celery -A tests.support.broken_evaluator worker``. Something in it is broken.

`ARTSEEK_TEST_BREAK` says what: it cannot be made (``make``), fails and cannot clean up (``give-up``), or ``die``s.
"""

import os
from typing import Any

from services.evaluator import app as evaluator_app
from services.evaluator.evaluator import Evaluator
from shared.messaging.worker import WorkerClients
from shared.settings import Settings

_HOW = os.environ["ARTSEEK_TEST_BREAK"]
_make = evaluator_app.make_evaluator


def _broken(*_: object, **__: object) -> Any:
    raise RuntimeError(f"the test breaks {_HOW}")


def _dead(*_: object, **__: object) -> Any:
    os._exit(1)


def _made(settings: Settings, clients: WorkerClients) -> Evaluator:
    made = _make(settings, clients)
    if _HOW == "give-up":
        made.evaluate = made.give_up = _broken  # type: ignore[method-assign]
    else:
        made._evaluate = _dead  # type: ignore[method-assign]
    return made


evaluator_app.make_evaluator = _broken if _HOW == "make" else _made
app = evaluator_app.app
