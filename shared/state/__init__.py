"""What Redis or Valkey holds: buckets, claims, index states, jobs, the stream of changes. All of it can be rebuilt."""

from shared.state.buckets import BucketStore, Candidates, FetchedBuckets, most_seen
from shared.state.changes import Change, Changes, deletions
from shared.state.connection import Client, check, connect, guarded
from shared.state.index_states import IndexState
from shared.state.jobs import Job, Jobs
from shared.state.outcomes import Rejection
from shared.state.state import State

__all__ = [
    "BucketStore",
    "Candidates",
    "Change",
    "Changes",
    "Client",
    "FetchedBuckets",
    "IndexState",
    "Job",
    "Jobs",
    "Rejection",
    "State",
    "check",
    "connect",
    "deletions",
    "guarded",
    "most_seen",
]
