"""All that Redis or Valkey holds of Artseek, behind one object that is passed to whatever works with it."""

from dataclasses import dataclass
from typing import Self

from shared.state.access_marks import AccessMarks
from shared.state.attempts import Attempts
from shared.state.buckets import BucketStore
from shared.state.changes import RECORDS, Changes
from shared.state.claims import Claims
from shared.state.connection import Client
from shared.state.index_states import IndexStates
from shared.state.indexed_segments import IndexedSegments
from shared.state.indexing import Indexing
from shared.state.jobs import Jobs
from shared.state.journal import Journal
from shared.state.locks import Locks
from shared.state.log_ins import LogIns
from shared.state.model_changes import ModelChanges
from shared.state.pending_log_ins import PendingLogIns
from shared.state.pins import Pins
from shared.state.recall_log import RecallLog
from shared.state.region_coverage import RegionCoverage
from shared.state.sessions import Sessions
from shared.state.since_compaction import SinceCompaction
from shared.state.suspects import Suspects
from shared.state.verifications import Verifications


@dataclass(frozen=True)
class State:
    """The small classes that read and write Redis, on one client."""

    buckets: BucketStore
    claims: Claims
    indexed_segments: IndexedSegments
    index_states: IndexStates
    suspects: Suspects
    verifications: Verifications
    since_compaction: SinceCompaction
    model_changes: ModelChanges
    region_coverage: RegionCoverage
    attempts: Attempts
    journal: Journal
    pins: Pins
    locks: Locks
    jobs: Jobs
    changes: Changes
    indexing: Indexing
    record_changes: Changes
    recall_log: RecallLog
    access_marks: AccessMarks
    sessions: Sessions
    log_ins: LogIns
    pending_log_ins: PendingLogIns

    @classmethod
    def of(cls, client: Client, *, bucket_limit: int | None = None) -> Self:
        """Return the state on a client; nothing is sent yet. A search takes at most `bucket_limit` ids of a bucket."""
        return cls(
            buckets=BucketStore(client) if bucket_limit is None else BucketStore(client, limit=bucket_limit),
            claims=Claims(client),
            indexed_segments=IndexedSegments(client),
            index_states=IndexStates(client),
            suspects=Suspects(client),
            verifications=Verifications(client),
            since_compaction=SinceCompaction(client),
            model_changes=ModelChanges(client),
            region_coverage=RegionCoverage(client),
            attempts=Attempts(client),
            journal=Journal(client),
            pins=Pins(client),
            locks=Locks(client),
            jobs=Jobs(client),
            changes=Changes(client),
            indexing=Indexing(client),
            record_changes=Changes(client, RECORDS),
            recall_log=RecallLog(client),
            access_marks=AccessMarks(client),
            sessions=Sessions(client),
            log_ins=LogIns(client),
            pending_log_ins=PendingLogIns(client),
        )

    def forget(self, set_name: str) -> None:
        """Delete what is known of an embedding set. Its buckets are not touched."""
        self.index_states.forget(set_name)
        self.suspects.remove(set_name)
        self.claims.forget(set_name)
        self.indexed_segments.forget(set_name)
        self.since_compaction.reset(set_name)
        self.model_changes.forget_set(set_name)
        self.region_coverage.forget(set_name)
