"""Who calls the query service finds it by the settings; apart from the client, which the service itself imports."""

from shared.rpc.query.client import DEADLINE_S, QueryClient
from shared.rpc.tls import grpc_tls
from shared.settings import Settings


def connect_query(settings: Settings, *, deadline_s: float = DEADLINE_S) -> QueryClient:
    """Return a client of the query service that the settings name; nothing is sent yet.

    Raises:
        Invalid: A certificate of the settings cannot be read.
    """
    return QueryClient(settings.query_target, tls=grpc_tls(settings), deadline_s=deadline_s)
