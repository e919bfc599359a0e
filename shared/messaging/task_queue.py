"""The task queues: their names, the names of the tasks, and the client that sends tasks."""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

from shared.messaging.message_fields import FORMAT, FORMAT_FIELD
from shared.messaging.messages import BatchImage, EvaluationRequest, TuningRequest
from shared.state.connection import guarded
from shared.state.outcomes import Outcome
from shared.state.sent_messages import SentMessage, SentMessages
from shared.state.server_refusals import BROKER

_PIECE = 200  # messages that are read at a time

EMBED = "embed"
INDEX = "index"
MAINTENANCE = "maintenance"  # what may take minutes: it must not hold up new segments and deletions
EVALUATE = "evaluate"
QUEUES = (EMBED, INDEX, MAINTENANCE, EVALUATE)

EMBED_BATCH = "embedder.embed"
INDEX_SEGMENT = "indexer.index"
DELETE_IMAGES = "indexer.delete"
DROP_COLLECTION = "maintenance.drop"
RENAME_COLLECTION = "maintenance.rename"
MAINTAIN = "maintenance.maintain"
REBUILD = "maintenance.rebuild"
TUNE = "maintenance.tune"
COMPACT = "maintenance.compact"
CHANGE_MODEL = "maintenance.change_model"
SWITCH_REGIONS = "maintenance.switch_regions"
MAKE_REGIONS = "maintenance.make_regions"
PURGE = "maintenance.purge"
CLEAN_TRASH = "maintenance.clean_trash"
TIDY_RECORDS = "maintenance.tidy_records"
MAP = "maintenance.map"
COLLECT_ORPHANS = "maintenance.collect_orphans"
VERIFY = "maintenance.verify"
EVALUATE_COLLECTION = "evaluator.evaluate"
FIND_DUPLICATES = "evaluator.find_duplicates"
RELABEL_IMAGES = "maintenance.relabel"


class TaskQueue:
    """Sends tasks to the services that do them, by name: the sender need not have their code.

    With `sent`, the message of a job is kept there until its batch is reported, so that it can be sent again.
    """

    def __init__(self, app: Celery, sent: SentMessages | None = None) -> None:
        self._app, self._sent = app, sent

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
        message: dict[str, Any] = {"items": [item.to_json() for item in items]}
        if set_name is not None:
            message["set_name"] = set_name
        if before is not None:
            message["before"] = before.to_json()
        self._send(EMBED_BATCH, job=job, batch=batch, collection=collection, **message)

    def index(self, *, set_name: str, segment: str, job: str, batch: int, outcome: Outcome) -> None:
        """Have a segment indexed that was written into an embedding set, and its batch's outcome reported after."""
        self._send(INDEX_SEGMENT, set_name=set_name, segment=segment, job=job, batch=batch, outcome=outcome.to_json())

    def delete(
        self,
        *,
        job: str,
        collection: str,
        image_ids: Sequence[int],
        purge: bool = False,
        from_trash: bool = False,
    ) -> None:
        """Have images moved to the trash, or removed for good; the job reports when they are gone.

        With `from_trash`, images that are in the collection, perhaps again by now, are left.
        """
        message: dict[str, Any] = {name: True for name, flag in (("purge", purge), ("from_trash", from_trash)) if flag}
        self._send(DELETE_IMAGES, job=job, collection=collection, image_ids=list(image_ids), **message)

    def purge(self, *, job: str, collection: str, image_ids: Sequence[int], had: Sequence[int] | None = None) -> None:
        """Have everything removed that is left of images which were deleted from a collection.

        `had`: those that it or its trash had when the deletion began; None: the purge is to look.
        """
        message: dict[str, Any] = {} if had is None else {"had": list(had)}
        self._send(PURGE, job=job, collection=collection, image_ids=list(image_ids), **message)

    def clean_trash(self) -> None:
        """Have the entries removed from the trash of all collections that have been there for long enough."""
        self._send(CLEAN_TRASH)

    def tidy_records(self) -> None:
        """Have the changes of records merged where they are many."""
        self._send(TIDY_RECORDS)

    def drop(self, *, job: str, collection: str) -> None:
        """Have a collection removed with all its images."""
        self._send(DROP_COLLECTION, job=job, collection=collection)

    def rename(self, *, job: str, collection: str, new: str) -> None:
        """Have a collection given another name."""
        self._send(RENAME_COLLECTION, job=job, collection=collection, new=new)

    def maintain(self, *, collection: str, job: str | None = None) -> None:
        """Have the index of a collection fitted if there is none yet or the collection has outgrown it."""
        self._send(MAINTAIN, collection=collection, job=job)

    def rebuild(self, *, collection: str, job: str | None = None, fit: bool = False) -> None:
        """Have the index of a collection restored from the object store; `fit` makes a new generation."""
        self._send(REBUILD, collection=collection, job=job, fit=fit)

    def tune(self, *, collection: str, job: str, request: TuningRequest, apply: bool) -> None:
        """Have the index of a collection tuned as requested; without `apply`, only told what would be chosen."""
        self._send(TUNE, collection=collection, job=job, request=asdict(request), apply=apply)

    def relabel(self, *, job: str, batch: int, collection: str, items: Sequence[BatchImage], keep: bool) -> None:
        """Have images that a collection has given their new labels; with `keep`, only told how many differ."""
        self._send(
            RELABEL_IMAGES,
            job=job,
            batch=batch,
            collection=collection,
            items=[item.to_json() for item in items],
            keep=keep,
        )

    def compact(self, *, collection: str, job: str | None = None) -> None:
        """Have the segments of a collection merged where it pays; with a job, all that are not full and fully alive."""
        self._send(COMPACT, collection=collection, job=job)

    def verify(self) -> None:
        """Have all but buckets and the contents of originals verified, and the findings kept."""
        self._send(VERIFY)

    def evaluate(self, *, job: str, collection: str, request: EvaluationRequest) -> None:
        """Have a collection evaluated."""
        self._send(EVALUATE_COLLECTION, job=job, collection=collection, request=request.to_json())

    def find_duplicates(self, *, job: str, collection: str) -> None:
        """Have a collection searched for images that show the same."""
        self._send(FIND_DUPLICATES, job=job, collection=collection)

    def map(self, *, job: str, collection: str, anew: bool = False) -> None:
        """Have the map of a collection made, or brought up to its images; with `anew`, fitted again."""
        self._send(MAP, job=job, collection=collection, anew=anew)

    def change_model(self, *, collection: str, job: str, model: str, version: int | None) -> None:
        """Have a collection embedded anew with another model, by default with its latest version, and changed to it."""
        self._send(CHANGE_MODEL, collection=collection, job=job, model=model, version=version)

    def switch_regions(self, *, job: str, collection: str, on: bool) -> None:
        """Have the regions of a collection's images indexed, or their index removed; the job ends when it is done."""
        self._send(SWITCH_REGIONS, job=job, collection=collection, on=on)

    def make_regions(self, *, collection: str, job: str | None = None) -> None:
        """Have the windows embedded of those images that have none, where the collection's regions are indexed."""
        self._send(MAKE_REGIONS, collection=collection, job=job)

    def waiting(self) -> dict[str, int]:
        """Return the number of messages that wait in each queue.

        Raises:
            BrokerUnavailable: The broker does not answer.
        """
        with _guarded(), self._app.connection_for_write() as connection:
            client: Any = connection.default_channel  # the Redis transport's, whose client speaks Redis
            return {queue: int(client.client.llen(queue)) for queue in QUEUES}

    def held(self) -> set[tuple[str, int]]:
        """Return the job and batch of each message that a queue holds, or that a worker took and still has.

        Raises:
            BrokerUnavailable: The broker does not answer.
        """
        found = set()
        with _guarded(), self._app.connection_for_write() as connection:
            channel: Any = connection.default_channel  # as in `waiting`
            client = channel.client
            for queue in QUEUES:
                for start in range(0, int(client.llen(queue)), _PIECE):
                    found |= {_batch_of(json.loads(message)) for message in client.lrange(queue, start, start + _PIECE)}
            for _, taken in client.hscan_iter("unacked", count=_PIECE):
                found.add(_batch_of(json.loads(taken)[0]))
        return {batch for batch in found if batch is not None}

    def send_again(self, message: SentMessage) -> None:
        """Send a message that was lost."""
        with _guarded():
            self._app.send_task(message.task, kwargs=message.arguments)

    def collect_orphans(self) -> None:
        """Have the originals deleted that nothing has held for a while."""
        self._send(COLLECT_ORPHANS)

    def rewrite_journal(self) -> None:
        """Have the broker rewrite its append-only file, which remembers messages until then.

        Raises:
            BrokerUnavailable: The broker does not answer.
        """
        with _guarded(), self._app.connection_for_write() as connection, suppress(ResponseError):
            client: Any = connection.default_channel  # as in `waiting`
            client.client.bgrewriteaof()

    def _send(self, task: str, **message: Any) -> None:
        message[FORMAT_FIELD] = FORMAT
        if self._sent is not None and message.get("job"):
            self._sent.note(message["job"], message.get("batch", 0), SentMessage(task, message))
        with _guarded():
            self._app.send_task(task, kwargs=message)


def _batch_of(message: dict[str, Any]) -> tuple[str, int] | None:
    """Return job and batch of a message as Celery writes it; None if it belongs to no job."""
    try:
        _, arguments, _ = json.loads(base64.b64decode(message["body"]))
        return (str(arguments["job"]), int(arguments.get("batch", 0))) if arguments.get("job") else None
    except (ValueError, TypeError, KeyError):
        return None  # it is none of ours


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn what keeps the broker from taking a message into our error: kombu wraps some of redis-py's.

    Raises:
        BrokerUnavailable: The broker does not answer, takes no writes, or refuses us.
    """
    with guarded(BROKER):
        try:
            yield
        except OperationalError as error:
            raise error.__cause__ or ConnectionError(str(error)) from error
