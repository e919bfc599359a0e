"""LSH buckets as sets of integer ids: one set per table and bucket."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from shared.index.connection import Client, guarded

_PIPELINE = 4096  # commands sent at a time: large enough to hide the round trip, small enough to stay a few 100 kB


class BucketStore:
    """Adds ids to buckets, removes them, and fetches the union of buckets. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def add(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Put ``ids[i]`` into the bucket ``names[i]``; both have one item per image and table."""
        self._each("SADD", names, ids)

    def remove(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        """Take ``ids[i]`` out of the bucket ``names[i]``."""
        self._each("SREM", names, ids)

    def _each(self, command: str, names: Sequence[bytes], ids: Sequence[int]) -> None:
        members: defaultdict[bytes, list[int]] = defaultdict(list)
        for name, image in zip(names, ids, strict=True):
            members[name].append(image)
        commands = iter(members.items())
        with guarded():
            while True:
                pipeline = self._redis.pipeline(transaction=False)
                for name, images in islice(commands, _PIPELINE):
                    pipeline.execute_command(command, name, *images)
                if not len(pipeline):
                    return
                pipeline.execute()

    def candidates(self, names: Sequence[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the union of buckets, by one pipeline: distinct ids, and in how many buckets each was; int64 [n]."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.smembers(name)
            found: list[Iterable[bytes]] = pipeline.execute()
        seen = [member for bucket in found for member in bucket]
        ids, counts = np.unique(np.array(seen, dtype="S20").astype(np.int64), return_counts=True)
        return ids, counts

    def drop(self, prefix: bytes, *, keep: bytes | None = None) -> int:
        """Delete every bucket whose name starts with `prefix`, but not with `keep`; returns how many there were."""
        pattern = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in prefix) + b"*"
        dropped = 0
        with guarded():
            cursor = 0
            while True:
                cursor, names = self._redis.scan(cursor, match=pattern, count=2000)
                names = [name for name in names if keep is None or not name.startswith(keep)]
                if names:
                    pipeline = self._redis.pipeline(transaction=False)
                    for name in names:  # a command per key: in a cluster, keys lie in many slots
                        pipeline.unlink(name)
                    dropped += sum(pipeline.execute())
                if cursor == 0:
                    return dropped
