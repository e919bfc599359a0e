"""Switches the index of a collection's regions, for the API and the pages."""

from services.web.access.auditing import note_detail
from services.web.clients import WebClients
from services.web.quotas import submit_counted


def switch_regions(clients: WebClients, name: str, *, on: bool) -> str:
    """Have the regions of a collection indexed, or their index removed; returns the job that does it.

    Raises:
        NotFound: There is no such collection.
        Problem: The requester has as much under way as they may.
    """
    clients.catalog.get(name)
    note_detail("on" if on else "off")
    return submit_counted("regions", name, lambda job: clients.queue.switch_regions(job=job, collection=name, on=on))
