"""The task queues: their names, the messages on them, and the Celery application that every worker is made from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypedDict

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.errors import BrokerUnavailable, Invalid
from shared.evaluation.index_setting import IndexSetting, IndexSettingJson
from shared.settings import Settings
from shared.state.jobs import Outcome
from shared.storage.segments import Entry

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

# Longer than any task of ours takes; one that hangs in a decoder is killed and counts as having killed its worker.
_EMBED_LIMIT_S = 120


@dataclass(frozen=True)
class BatchImage:
    """An image of a batch: its digest, the file name and label it came with, and when it was added if it was before."""

    digest: str
    name: str
    label: str | None
    size: int
    added: float | None = None

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Return the image of a segment's row as one of a batch that is to be embedded."""
        return cls(entry.digest, entry.name, entry.label, entry.size, entry.added)


@dataclass(frozen=True, kw_only=True)
class TuningRequest:
    """What an index is to reach; None and empty: as the tuner has it by default.

    Attributes:
        recall: Share of the 10 nearest that the candidates are to hold.
        max_lookups: Buckets that a query may look into.
        max_candidates: Share of the collection that may be ranked, kept to even where the recall is then missed.
        families: Hash families that may be chosen.
        metric: Whose nearest are meant: "cosine" or "euclidean".
    """

    recall: float | None = None
    max_lookups: int | None = None
    max_candidates: float | None = None
    families: tuple[str, ...] = ()
    metric: Literal["cosine", "euclidean"] = "cosine"


class EvaluationRequestJson(TypedDict):
    """What a collection is judged by, as it stands on the queue."""

    k: int
    query_set: str | None
    kept: str | None
    sample: int
    seed: int
    grid: list[IndexSettingJson]


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What a collection is judged by: a query set, by its digest, or a sample of the collection's own labelled images.

    Attributes:
        k: Hits of a query that count.
        query_set: Digest of the set; None: a sample.
        kept: The name that the set is kept under, if it is asked for by its name.
        sample: Images of the sample, at most.
        seed: Of the sample, the intervals and the grid.
        grid: Settings of indexes to judge beside the one in use.
    """

    k: int = 10
    query_set: str | None = None
    kept: str | None = None
    sample: int = 0
    seed: int = 0
    grid: tuple[IndexSetting, ...] = ()

    def to_json(self) -> EvaluationRequestJson:
        """Return the request as JSON values."""
        return {
            "k": self.k,
            "query_set": self.query_set,
            "kept": self.kept,
            "sample": self.sample,
            "seed": self.seed,
            "grid": [setting.to_json() for setting in self.grid],
        }

    @classmethod
    def from_json(cls, value: EvaluationRequestJson) -> "EvaluationRequest":
        """Return the request that `to_json` gave.

        Raises:
            Invalid: A newer version sent it, with what this one does not know.
        """
        if unknown := sorted(value.keys() - EvaluationRequestJson.__annotations__.keys()):
            raise Invalid(f"the evaluation is asked for with {unknown[0]!r}, which this version does not know")
        return cls(
            k=value["k"],
            query_set=value["query_set"],
            kept=value["kept"],
            sample=value["sample"],
            seed=value["seed"],
            grid=tuple(IndexSetting.from_json(setting) for setting in value["grid"]),
        )


def make_app(settings: Settings, *, name: str) -> Celery:
    """Return the Celery application of a service.

    A message is acknowledged when its task is done, so a worker that dies gives it back: at once where only the child
    process died, after `visibility_timeout` where all of it did.
    """
    app = Celery(name, broker=settings.broker_url.get_secret_value())
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=False,
        task_default_queue=EMBED,
        task_create_missing_queues=True,
        task_routes={
            EMBED_BATCH: {"queue": EMBED},
            "indexer.*": {"queue": INDEX},
            "maintenance.*": {"queue": MAINTENANCE},
            EVALUATE_COLLECTION: {"queue": EVALUATE},
        },
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=0,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 10,
            "socket_timeout": 10.0,
            "socket_connect_timeout": 5.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_annotations={EMBED_BATCH: {"time_limit": _EMBED_LIMIT_S}},
        task_publish_retry_policy={"max_retries": 5, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0},
    )
    return app


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

    def evaluate(self, *, job: str, collection: str, trial: EvaluationRequest) -> None:
        """Have the answers of a collection judged."""
        self._send(EVALUATE_COLLECTION, job=job, collection=collection, trial=trial.to_json())

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
