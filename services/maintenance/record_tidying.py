"""Tidying records: changes are merged where they are many."""

from shared.clients import Clients
from shared.messaging.task_queue import TaskQueue
from shared.records.record_store import RecordStore


class RecordDuty:
    """Asks every minute for records to be tidied, if there is anything to do."""

    name, every_s = "records", 60.0

    def __init__(self, clients: Clients, queue: TaskQueue) -> None:
        self._records, self._queue = RecordStore(clients.store), queue

    def run(self) -> None:
        """Look, and ask.

        Raises:
            Unavailable: A server is away.
        """
        if any(self._records.merge_due(collection) for collection in self._records.collections()):
            self._queue.tidy_records()


class RecordTidier:
    """Merges the changes of records; it may run twice."""

    def __init__(self, clients: Clients) -> None:
        self._records, self._locks = RecordStore(clients.store, clients.state.record_changes), clients.state.locks

    def tidy(self) -> None:
        """Merge what is due in all collections.

        Raises:
            Unavailable: A server is away, or another worker is at it.
        """
        for collection in self._records.collections():
            while self._records.merge(collection, self._locks):
                pass
