"""What Redis or Valkey holds: buckets, the ledger of ids, the stream of changes, and jobs. All of it can be rebuilt."""

from shared.index.buckets import BucketStore, Candidates, most_seen
from shared.index.changes import Change, Changes
from shared.index.connection import Client, check, connect, guarded
from shared.index.jobs import Job, Jobs, Rejection
from shared.index.ledger import IndexState, Ledger

__all__ = [
    "BucketStore",
    "Candidates",
    "Change",
    "Changes",
    "Client",
    "IndexState",
    "Job",
    "Jobs",
    "Ledger",
    "Rejection",
    "check",
    "connect",
    "guarded",
    "most_seen",
]
