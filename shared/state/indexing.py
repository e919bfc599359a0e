"""What indexing a segment asks Redis and tells it, in few round trips: a small segment takes little else."""

from collections.abc import Sequence

from shared.state.changes import Change, append
from shared.state.claims import claims_key
from shared.state.connection import Client, guarded
from shared.state.jobs import batches_key
from shared.state.pieces import pieces
from shared.state.since_compaction import SEGMENTS, since_key


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

    def announce(self, set_name: str, segment: str) -> int:
        """Announce a segment that is indexed; returns how many there were since the last compaction."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            append(pipeline, Change(set_name, "segment", segment))
            pipeline.hincrby(since_key(set_name), SEGMENTS, 1)
            return int(pipeline.execute()[-1])
