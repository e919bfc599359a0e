"""The task queues: their names, the names of the tasks, and the client that sends tasks."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.errors import BrokerUnavailable
from shared.messaging.messages import BatchImage, EvaluationRequest, TuningRequest
from shared.state.jobs import Outcome

EMBED = "embed"
INDEX = "index"
MAINTENANCE = "maintenance"  # what may take minutes: it must not hold up new segments and deletions
EVALUATE = "evaluate"
QUEUES = (EMBED, INDEX, MAINTENANCE, EVALUATE)

EMBED_BATCH = "embedder.embed"
INDEX_SEGMENT = "indexer.index"
DELETE_IMAGES = "indexer.delete"
DROP_COLLECTION = "maintenance.drop"
MAINTAIN = "maintenance.maintain"
REBUILD = "maintenance.rebuild"
TUNE = "maintenance.tune"
COMPACT = "maintenance.compact"
CHANGE_MODEL = "maintenance.change_model"
EVALUATE_COLLECTION = "evaluator.evaluate"


class TaskQueue:
    """Sends tasks to the services that do them, by name: the sender need not have their code."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def embed(
        self,
        *,
        job: str,
        batch: int,
        collection: str,
        items: Sequence[BatchImage],
        set_name: str | None = None,
        before: Outcome | None = None,
    ) -> None:
        """Have a batch of stored originals embedded and added to a collection.

        Args:
            job: What it belongs to.
            batch: Its number in the job.
            collection: Name of the collection.
            items: The images.
            set_name: The embedding set that they are for; None: the set in use.
            before: What became of the batch's other images.
        """
        message: dict[str, Any] = {"items": [asdict(item) for item in items]}
        if set_name is not None:
            message["set_name"] = set_name
        if before is not None:
            message["before"] = before.to_json()
        self._send(EMBED_BATCH, job=job, batch=batch, collection=collection, **message)

    def index(self, *, set_name: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Have a segment indexed that was written into an embedding set, and its batch's outcome reported after."""
        self._send(INDEX_SEGMENT, set_name=set_name, segment=segment, job=job, batch=batch, outcome=outcome.to_json())

    def delete(self, *, job: str, collection: str, image_ids: Sequence[int]) -> None:
        """Have images removed from a collection; the job reports when they are gone."""
        self._send(DELETE_IMAGES, job=job, collection=collection, image_ids=list(image_ids))

    def drop(self, *, job: str, collection: str) -> None:
        """Have a collection removed with all its images."""
        self._send(DROP_COLLECTION, job=job, collection=collection)

    def maintain(self, *, collection: str, job: str | None = None) -> None:
        """Have the index of a collection fitted if there is none yet or the collection has outgrown it."""
        self._send(MAINTAIN, collection=collection, job=job)

    def rebuild(self, *, collection: str, job: str | None = None, fit: bool = False) -> None:
        """Have the index of a collection restored from the object store; `fit` makes a new generation."""
        self._send(REBUILD, collection=collection, job=job, fit=fit)

    def tune(self, *, collection: str, job: str, request: TuningRequest, apply: bool) -> None:
        """Have the index of a collection tuned as requested; without `apply`, only told what would be chosen."""
        self._send(TUNE, collection=collection, job=job, request=asdict(request), apply=apply)

    def compact(self, *, collection: str, job: str | None = None) -> None:
        """Have the segments of a collection merged where it pays; with a job, all that are not full and fully alive."""
        self._send(COMPACT, collection=collection, job=job)

    def evaluate(self, *, job: str, collection: str, request: EvaluationRequest) -> None:
        """Have a collection evaluated."""
        self._send(EVALUATE_COLLECTION, job=job, collection=collection, request=request.to_json())

    def change_model(self, *, collection: str, job: str, model: str, version: int | None) -> None:
        """Have a collection embedded anew with another model, by default with its latest version, and changed to it."""
        self._send(CHANGE_MODEL, collection=collection, job=job, model=model, version=version)

    def waiting(self) -> dict[str, int]:
        """Return the number of messages that wait in each queue.

        Raises:
            BrokerUnavailable: The broker does not answer.
        """
        try:
            with self._app.connection_for_write() as connection:
                client: Any = connection.default_channel  # the Redis transport's, whose client speaks Redis
                return {queue: int(client.client.llen(queue)) for queue in QUEUES}
        except (OperationalError, RedisError, OSError) as error:
            raise BrokerUnavailable(f"the broker (Redis or Valkey) does not answer: {error}") from error

    def _send(self, task: str, **message: Any) -> None:
        try:
            self._app.send_task(task, kwargs=message)
        except OperationalError as error:
            raise BrokerUnavailable(f"the broker (Redis or Valkey) does not answer: {error}") from error
