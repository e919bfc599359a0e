"""The indexer: its two tasks on the clients of one worker process."""

from dataclasses import dataclass
from typing import Self

from services.indexer.active_sets import ActiveSets
from services.indexer.deletion import DeletionTask
from services.indexer.segment_indexer import SegmentIndexer
from shared.index.deletion import ImageDeleter
from shared.index.generations import GenerationCache
from shared.messaging.worker import WorkerClients
from shared.settings import EXACT_BELOW


@dataclass(frozen=True)
class Indexer:
    """Keeps buckets, claims and indexed segments in step with the object store."""

    segments: SegmentIndexer
    deletion: DeletionTask

    @classmethod
    def of(cls, clients: WorkerClients, *, exact_below: int = EXACT_BELOW) -> Self:
        """Return an indexer on clients; nothing is sent yet."""
        generations, active_sets = GenerationCache(clients.store), ActiveSets(clients)
        return cls(
            segments=SegmentIndexer(clients, generations, active_sets, exact_below=exact_below),
            deletion=DeletionTask(clients, ImageDeleter(clients, generations), active_sets),
        )
