"""What was announced before a request came: each request knows of it, and reads the streams of changes at most once."""

from services.query.records.record_sync import RecordSync
from services.query.replica.replica_sync import ReplicaSync


class Announced:
    """Brings replicas and records up to what was announced before one request came.

    A search by the index asks for the ends of the streams in the round trip that fetches its buckets, and passes them
    to `note`. Whatever else a request looks at, it calls `read` first.
    """

    def __init__(self, replica_sync: ReplicaSync, record_sync: RecordSync | None = None) -> None:
        self._replica_sync, self._record_sync = replica_sync, record_sync
        self.streams = (replica_sync.stream,) if record_sync is None else (replica_sync.stream, record_sync.stream)
        self.is_read = False  # whether the streams were read since the request came

    def read(self) -> None:
        """Read the streams, unless this was done since the request came; without Redis, nothing is read."""
        if not self.is_read:
            self.note(self._replica_sync.ends_of(self.streams))

    def note(self, ends: tuple[str, ...] | None) -> None:
        """Take note of where the streams end by now; None: Redis does not answer."""
        if ends is not None:
            self._replica_sync.read_to(ends[0])
            if self._record_sync is not None:
                self._record_sync.read_to(ends[1])
        self.is_read = True
