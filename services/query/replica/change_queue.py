"""What was read from the stream of changes and is not applied yet."""

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Container

from services.query.replica.replica import Replica
from shared.state import Change, Changes
from shared.storage import layout


class ChangeQueue:
    """Reads the stream on several threads, and holds its changes by their embedding sets until they are applied.

    Attributes:
        position: Where the stream was read to; None: the object store must be listed.
        pending: The changes to apply; one is taken off only when it has been applied.
        merged: The merged segments to fetch.
        activated: By collection, the embedding set that was announced as activated.
        epochs: By embedding set, how many changes were read that may be of its buckets.
        listings: How often all may have changed, announced or not.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._lock = threading.Lock()  # held for a round trip
        self.position: str | None = None
        self.pending: defaultdict[str, deque[Change]] = defaultdict(deque)
        self.merged: defaultdict[str, deque[str]] = defaultdict(deque)
        self.activated: dict[str, str] = {}
        self.epochs: Counter[str] = Counter()
        self.listings = 0

    def read(self, followed: Container[str]) -> bool:
        """Read the new changes; returns whether the stream still reaches back to what was read before.

        Merged segments of the embedding sets that are `followed` need not be waited for.

        Raises:
            Unavailable: Redis does not answer.
        """
        with self._lock:
            while self.position is not None:
                since = self._changes.since(self.position)
                if since is None:
                    self.position = None
                    return False
                position, changes = since
                if position == self.position:
                    break
                for change in dict.fromkeys(changes):
                    self.epochs[change.set_name] += change.kind != "merged"  # of which the buckets hold the same
                    if change.kind == "activated":
                        self.activated[layout.collection_of(change.set_name)] = change.set_name
                    if change.kind == "merged" and change.set_name in followed:
                        self.merged[change.set_name].append(change.value)
                    else:
                        self.pending[change.set_name].append(change)
                self.position = position  # behind the changes: who sees the position finds them
        return True

    def awaited(self, collection: str, in_use: Replica | None) -> list[str]:
        """Return the embedding sets whose changes a request waits for; a set that is being filled is not among them."""
        embedding_sets = [set_name for set_name in list(self.pending) if layout.collection_of(set_name) == collection]
        if in_use is None:
            return embedding_sets
        awaited = {in_use.embedding_set.name, self.activated.get(collection)}
        return [set_name for set_name in embedding_sets if set_name in awaited]

    def forget_activation(self, collection: str, set_name: str) -> None:
        """Forget that an embedding set was announced as activated, unless another one was since."""
        with self._lock:
            if self.activated.get(collection) == set_name:
                del self.activated[collection]

    def clear(self) -> None:
        """Forget what is not applied: the object store is about to be listed."""
        with self._lock:
            self.pending.clear()
            self.merged.clear()
