"""What indexing a segment asks Redis and tells it, in few round trips: a small segment takes little else."""

from collections.abc import Sequence
from typing import Final

from shared.errors import Fenced
from shared.state import cluster
from shared.state.changes import CHANGES_KEY, KEPT, Change, append
from shared.state.claims import claims_key
from shared.state.connection import Client, guarded
from shared.state.indexed_segments import CLOSED, IndexedSegments, closed, indexed_key
from shared.state.job_entries import batches_key
from shared.state.pieces import pieces
from shared.state.since_compaction import SEGMENTS, since_key

_REPORTED, _IS_CLOSED = -2, -1
_COMPLETE: Final = f"""
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return {_REPORTED} end
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 1 then return {_IS_CLOSED} end
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', {KEPT}, '*', unpack(ARGV, 4))
return redis.call('HINCRBY', KEYS[4], '{SEGMENTS}', 1)
"""


class Indexing:
    """Reads and writes what belongs together. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def look(self, set_name: str, image_ids: Sequence[int], job: str, batch: int) -> tuple[list[str | None], bool]:
        """Return the segment that holds the claim of each image of a segment, and whether its batch is reported."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hexists(batches_key(job), str(batch))
            for piece in pieces(image_ids):
                pipeline.hmget(claims_key(set_name), [str(image_id) for image_id in piece])
            reported, *found = pipeline.execute()
        return [holder.decode() if holder else None for piece in found for holder in piece], bool(reported)

    def check_unreported(self, job: str, batch: int) -> None:
        """Make sure that no other worker has indexed a batch meanwhile: its segment may be merged, and rows deleted.

        Raises:
            Fenced: One has; this worker was stopped.
        """
        with guarded():
            if self._redis.hexists(batches_key(job), str(batch)):
                raise _fenced(job, batch)

    def complete(self, set_name: str, segment: str, job: str, batch: int) -> int:
        """Note that a segment is indexed, whose images are in their buckets, and announce it.

        A single server does so in one step, which takes one write to its disk.

        Returns:
            How many segments there were since the last compaction.

        Raises:
            Fenced: Another worker has indexed the batch meanwhile.
            Closed: The collection is about to change to another embedding set, and takes no segment in this one.
        """
        change = Change(set_name, "segment", segment)
        if isinstance(self._redis, cluster.Lazy):  # in which the keys lie on several servers
            self.check_unreported(job, batch)
            IndexedSegments(self._redis).add(set_name, segment)
            return self._announce(change)
        keys = batches_key(job), indexed_key(set_name), CHANGES_KEY, since_key(set_name)
        words = [word for field in change.fields().items() for word in field]
        with guarded():
            count = int(self._redis.eval(_COMPLETE, len(keys), *keys, str(batch), CLOSED, segment, *words))
        if count == _REPORTED:
            raise _fenced(job, batch)
        if count == _IS_CLOSED:
            raise closed(set_name)
        return count

    def _announce(self, change: Change) -> int:
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            append(pipeline, change)
            pipeline.hincrby(since_key(change.set_name), SEGMENTS, 1)
            return int(pipeline.execute()[-1])


def _fenced(job: str, batch: int) -> Fenced:
    return Fenced(f"another worker has indexed batch {batch} of the job {job!r} meanwhile")
