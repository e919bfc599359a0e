"""Logs of the workers: what Celery says anew with every attempt is passed over."""

import logging
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.app.trace import trace_task
from celery.exceptions import Reject

from shared.logs import configure

CONSUMER = "celery.worker.consumer.consumer"


@pytest.fixture(autouse=True)
def configured(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("INFO")
    configure("INFO")  # as a second application in the same process does
    root.addHandler(caplog.handler)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_message_that_goes_back_to_its_queue_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("celery.worker.strategy").info("Task %(name)s[%(id)s] received", {"name": "embed", "id": "1"})
    app = Celery("rejecting")
    rejecting = app.task(name="rejecting")(_reject)
    trace_task(rejecting, "1", (), {}, app=app, request={})
    assert caplog.messages == []


def _reject() -> None:
    raise Reject("the store is away", requeue=True)


def test_a_broker_that_is_away_is_told_once_until_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        for attempt in range(5):
            logging.getLogger(CONSUMER).error("consumer: Cannot connect to %s: %s", "redis://", attempt)
        logging.getLogger("celery.worker.consumer.connection").info("Connected to %s", "redis://")
    assert (
        caplog.messages
        == [
            "consumer: Cannot connect to redis://: 0",
            "Connected to redis://",
        ]
        * 2
    )
