"""The stream of changes: it tells the query service what changed, so that it need not list the object store."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from shared.state.connection import Client, guarded
from shared.state.pieces import pieces
from shared.state.set_members import last_entries

CHANGES_KEY = "changes"
"""The stream of all changes but those of records."""

RECORDS = "record-changes"  # the stream of what is announced of records: whoever edits them writes no other
KEPT = 20_000
"""Entries of a stream; a query service that fell behind further lists the object store again."""

Kind = Literal["collection", "segment", "merged", "deleted", "index", "dropped", "rebuilt", "activated", "records"]


@dataclass(frozen=True)
class Change:
    """Something changed in an embedding set: `value` names the segment, or the deleted rows of one, or is empty.

    A segment that was ``merged`` stands for its inputs. If it is gone, it was merged in its turn: list the store.
    An embedding set that was ``activated`` is in use from then on. Of ``records``, which have a stream of their own,
    `set_name` is the collection, and `value` the change; empty: list them.
    """

    set_name: str
    kind: Kind
    value: str = ""

    @property
    def deleted_rows(self) -> tuple[str, list[int]]:
        """The segment, and the ids of its rows, that this change says are deleted."""
        segment, _, image_ids = self.value.partition("/")
        return segment, [int(image_id) for image_id in image_ids.split(",")]

    def fields(self) -> dict[str, str]:
        """Return it as an entry of the stream."""
        return {"c": self.set_name, "k": self.kind, "v": self.value}


def deletions(set_name: str, rows: Iterable[tuple[str, int]]) -> list[Change]:
    """Return the changes that rows, by segment and image id, were deleted: one for those of a segment, or some."""
    by_segment: defaultdict[str, list[int]] = defaultdict(list)
    for segment, image_id in sorted(rows):
        by_segment[segment].append(image_id)
    return [
        Change(set_name, "deleted", f"{segment}/{','.join(map(str, piece))}")
        for segment, image_ids in by_segment.items()
        for piece in pieces(image_ids)
    ]


def append(pipeline: Client, change: Change, key: str = CHANGES_KEY) -> None:
    """Have a pipeline announce a change."""
    pipeline.xadd(key, change.fields(), maxlen=KEPT, approximate=True)


class Changes:
    """Announces changes and follows them. An announcement may come twice and says only where to look."""

    def __init__(self, client: Client, key: str = CHANGES_KEY) -> None:
        self._redis, self.key = client, key

    def announce(self, *changes: Change) -> None:
        """Announce changes to every query service, in their order."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for change in changes:
                append(pipeline, change, self.key)
            pipeline.execute()

    def position(self) -> str:
        """Return the position of the last announcement; ``0-0`` where there is none."""
        with guarded():
            return last_entries(self._redis, [self.key])[0]

    def since(self, position: str, *, block_ms: int | None = None) -> tuple[str, list[Change]] | None:
        """Return the announcements after `position`, and the position behind them; wait up to `block_ms` for one.

        Returns:
            None if the stream no longer reaches back to `position`, because the server lost it or trimmed it: then
            the object store must be listed again.
        """
        with guarded():
            if block_ms is not None:
                self._redis.xread({self.key: position}, count=1, block=block_ms)
            # From `position` on, not after it: if its entry is still there, nothing after it was lost.
            entries = self._redis.xrange(self.key, "-" if position == "0-0" else position, "+", count=1000)
        if position != "0-0":
            if not entries or entries[0][0].decode() != position:
                return None
            del entries[0]
        changes = []
        for entry, fields in entries:
            position = entry.decode()
            kind = fields[b"k"].decode()
            if kind in get_args(Kind):
                changes.append(Change(fields[b"c"].decode(), kind, fields[b"v"].decode()))
        return position, changes
