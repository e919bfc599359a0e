"""An evaluation under way: what it is about, its progress, and the parts of it that are finished."""

from dataclasses import dataclass

from services.evaluator.checkpoints import Checkpoints
from services.evaluator.class_field import ClassField
from services.evaluator.progress import Progress
from services.evaluator.queries import Queries
from shared.messaging.messages import EvaluationRequest
from shared.rpc.query import Collection


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the steps of an evaluation work with.

    Attributes:
        id: Its id, which is its job's.
        request: What was asked for.
        collection: The collection as it was at the start.
        classes: The field whose values are the classes.
        queries: The labelled queries.
        checkpoints: The finished parts.
        progress: Of the job.
    """

    id: str
    request: EvaluationRequest
    collection: Collection
    classes: ClassField
    queries: Queries
    checkpoints: Checkpoints
    progress: Progress
