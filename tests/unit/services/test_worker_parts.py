"""What a worker process is made of is made at its first task; while it cannot be made, messages wait."""

from collections.abc import Callable

import pytest
from celery.exceptions import Reject

from services.embedder import app as embedder_app
from services.indexer import app as indexer_app
from services.maintenance import app as maintenance_app
from shared.errors import Unavailable
from shared.messaging import worker
from shared.messaging.worker import per_process


def test_what_a_process_needs_is_made_once_as_soon_as_it_can_be() -> None:
    calls: list[int] = []

    @per_process
    def made() -> list[int]:
        calls.append(len(calls))
        if len(calls) < 3:
            raise ValueError("no bucket is named")
        return calls

    assert calls == []
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot work: ValueError: no bucket is named"):
            made()
    assert made() is made()
    assert calls == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("embedder", lambda: embedder_app.embed(job="j", batch=0, collection="art", items=[])),
        ("indexer", lambda: indexer_app.delete(job="j", collection="art", image_ids=[1])),
        ("maintenance", lambda: maintenance_app.compact(collection="art")),
    ],
)
def test_a_message_goes_back_to_the_queue_while_its_worker_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, name: str, task: Callable[[], None]
) -> None:
    @per_process
    def broken() -> None:
        raise OSError("no space left")

    app = {"embedder": embedder_app, "indexer": indexer_app, "maintenance": maintenance_app}[name]
    monkeypatch.setattr(app, name, broken)
    monkeypatch.setattr(worker, "_FIRST_PAUSE_S", 0)
    with pytest.raises(Reject) as caught:
        task()
    assert vars(caught.value) == {"reason": "the worker cannot work: OSError: no space left", "requeue": True}
