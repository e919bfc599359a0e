"""What Redis or Valkey holds: buckets, the ledger of ids, the stream of changes, and jobs. All of it can be rebuilt."""

from shared.state.buckets import BucketStore, Candidates, most_seen
from shared.state.changes import Change, Changes
from shared.state.connection import Client, check, connect, guarded
from shared.state.jobs import Job, Jobs, Rejection
from shared.state.ledger import IndexState, Ledger

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
