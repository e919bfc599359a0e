"""Keeps the pictures that were searched for on the page, so that these searches have addresses."""

import logging

from services.web.clients import WebClients
from services.web.languages import told
from services.web.quotas import may_keep_query
from shared.errors import NotFound, ObjectNotFound, Unavailable
from shared.storage.kept_queries import KeptQueries, KeptQuery
from shared.storage.layout import digest_of

_log = logging.getLogger(__name__)


def keep(clients: WebClients, collection: str, image: bytes, name: str) -> KeptQuery | None:
    """Keep a picture that was searched for; None if the setting or the requester's quota has it not kept.

    One that has been kept under this name, for less than half of its time, is not kept anew.
    """
    days = clients.settings.kept_query_days
    if not days:
        return None
    queries = KeptQueries(clients.store)
    try:
        kept = queries.find(collection, digest_of(image), days=days / 2)
        if kept is not None and kept.name == name:
            return kept
        return queries.keep(collection, image, name) if may_keep_query(len(image)) else kept
    except Unavailable as error:  # the answer is there, and needs no store
        _log.warning("%s: a picture that was searched for is not kept: %s", collection, error)
        return None


def kept_query(clients: WebClients, collection: str, digest: str) -> tuple[KeptQuery, bytes]:
    """Return a picture that was searched for in a collection, and its bytes.

    Raises:
        NotFound: It is not kept, or no longer.
        Unavailable: The object store does not answer.
    """
    queries, days = KeptQueries(clients.store), clients.settings.kept_query_days
    try:
        kept = queries.find(collection, digest, days=days)
        if kept is not None:
            return kept, queries.read(kept)
    except ObjectNotFound:
        pass
    raise NotFound(
        told(
            "the picture of this search is not kept, or no longer: such pictures are kept for %(days)s days; "
            "search for the file again",
            days=f"{days:g}",
        )
    )
