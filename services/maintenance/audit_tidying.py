"""Keeps the audit log small: a day that is over becomes one object, and old days go."""

from shared.access.audit import AuditLog
from shared.storage.object_store import ObjectStore


class AuditDuty:
    """Tidies the audit log every hour; it is kept for `days` days."""

    name, every_s = "audit", 3600.0

    def __init__(self, store: ObjectStore, *, days: float) -> None:
        self._log, self._days = AuditLog(store), days

    def run(self) -> None:
        """Tidy it.

        Raises:
            Unavailable: The object store does not answer.
        """
        self._log.tidy(days=self._days)
