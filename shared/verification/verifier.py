"""Verifies the whole system, or one collection: runs the checks, more than once where something was on its way."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.clients import Clients
from shared.errors import NotFound, Unavailable
from shared.rpc.query import QueryClient
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.verification.compact_sets import OriginalSizes
from shared.verification.findings import Damage, Report
from shared.verification.originals_check import HeldOriginals, OriginalsCheck
from shared.verification.set_check import SetCheck, SetContents
from shared.verification.store_check import StoreCheck

_PASSES = 4
_PAUSE_S = 2.0  # between two passes: what is on its way arrives meanwhile


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is verified.

    Attributes:
        collection: One collection; None: all, and what belongs to none.
        buckets: Whether the buckets of the index are compared with the rows.
        sample: Originals of each collection that are read; None: all; 0: none, only the listing is compared.
    """

    collection: str | None = None
    buckets: bool = True
    sample: int | None = 1000


QUICK = Extent(buckets=False, sample=0)
"""What the maintenance worker verifies each day: all but buckets and the contents of originals."""


class Verifier:
    """Verifies. Images may be added, deleted and searched meanwhile.

    Args:
        clients: The servers.
        query: The query service, whose replica is compared; None: it is not.
        on_progress: Is called with what is being done, in words.
    """

    def __init__(
        self, clients: Clients, *, query: QueryClient | None, on_progress: Callable[[str], None] = lambda _: None
    ) -> None:
        self._clients, self._query, self._on_progress = clients, query, on_progress
        self._store_check, self._originals_check = StoreCheck(clients), OriginalsCheck(clients)

    def verify(self, extent: Extent) -> Report:
        """Return what is damaged.

        A finding is what two passes found in a row: a batch on its way, or an image that is being deleted, looks like
        damage for a moment. Originals are read once, since they never change.

        Raises:
            NotFound: There is no such collection.
            Unavailable: A server does not answer.
        """
        damage, report, held, stored = self._pass(extent)
        for _ in range(_PASSES - 1):
            if not damage.found:
                break
            time.sleep(_PAUSE_S)
            again, report, held, stored = self._pass(extent)
            damage = damage.in_both(again)
        read = 0
        if extent.sample != 0:
            count = 0

            def on_read() -> None:
                nonlocal count
                count += 1
                self._on_progress(f"{count} originals read")

            read = self._originals_check.read(
                held, stored, damage, sample=extent.sample, only=extent.collection, on_read=on_read
            )
        return Report(
            findings=damage.findings(),
            collections=report.collections,
            images=report.images,
            originals=len(stored),
            originals_read=read,
        )

    def _pass(self, extent: Extent) -> tuple[Damage, Report, list[HeldOriginals], OriginalSizes]:
        damage = Damage()
        only = extent.collection
        embedding_sets, complete = self._store_check.embedding_sets(damage)
        if only is not None and only not in self._clients.catalog.names() and not damage.found:
            raise NotFound(f"there is no collection {only!r}")
        set_check = SetCheck(self._clients, buckets=extent.buckets)
        held: list[HeldOriginals] = []
        images = 0
        in_use = self._numbers_in_use(embedding_sets)
        for embedding_set in embedding_sets:
            name, count = embedding_set.collection, 0

            def on_segment(name: str = name) -> None:
                nonlocal count
                count += 1
                self._on_progress(f"{name}: {count} segments read")

            regions = layout.is_regions(name)
            wanted = only in {None, layout.collection_with(name)} and in_use[name] == embedding_set.number
            found = set_check.check(embedding_set, damage if wanted else Damage(), on_segment=on_segment)
            complete = complete and found.complete
            if not regions:
                held.append(HeldOriginals(name, found.sizes))
            if wanted:
                images += 0 if regions else len(found.held)
                if not regions:  # of which the query service tells nothing
                    self._check_replica(embedding_set, found, damage)
        self._on_progress("comparing originals")
        stored = self._originals_check.check(held, damage, complete=complete, only=only)
        self._store_check.evaluations(damage, only=only)
        if only is None:
            self._store_check.query_sets(damage)
        else:
            damage = Damage({place: keys for place, keys in damage.found.items() if _is_of(place[1], only)})
        collections = [name for name in in_use if not layout.is_regions(name)]
        counted = Report(collections=len(collections) if only is None else int(only in in_use), images=images)
        return damage, counted, held, stored

    @staticmethod
    def _numbers_in_use(embedding_sets: list[EmbeddingSet]) -> dict[str, int]:
        """Return the number of the embedding set that each collection uses: the first that is listed of it."""
        numbers: dict[str, int] = {}
        for embedding_set in embedding_sets:
            numbers.setdefault(embedding_set.collection, embedding_set.number)
        return numbers

    def _check_replica(self, embedding_set: EmbeddingSet, found: SetContents, damage: Damage) -> None:
        """Compare how many images the query service serves, and which segments it cannot, with the store."""
        if self._query is None:
            return
        try:
            served = self._query.collection(embedding_set.collection)
        except (Unavailable, NotFound):
            damage.add("replica-differs", embedding_set.collection, ["the query service does not serve it"])
            return
        if served.images != len(found.held):
            damage.add("replica-differs", embedding_set.collection, ["number of images"])


def _is_of(place: str | None, collection: str) -> bool:
    """Return whether damage at a place is that of a collection, or of the index of its regions."""
    return place is not None and layout.collection_with(place) == collection
