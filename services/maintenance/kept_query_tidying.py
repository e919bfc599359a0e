"""Deletes the pictures that were searched for, when they have been kept for as long as a setting says."""

from shared.storage.kept_queries import KeptQueries
from shared.storage.object_store import ObjectStore


class KeptQueryDuty:
    """Looks every hour for pictures that were kept for `days` days."""

    name, every_s = "kept-queries", 3600.0

    def __init__(self, store: ObjectStore, *, days: float) -> None:
        self._kept, self._days = KeptQueries(store), days

    def run(self) -> None:
        """Delete them.

        Raises:
            Unavailable: The object store does not answer.
        """
        self._kept.tidy(days=self._days)
