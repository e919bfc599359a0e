"""The clients of the servers that the application works with, and how a view gets at them."""

from dataclasses import dataclass

from flask import Flask, current_app

from services.web.memory_budget import MemoryBudget
from services.web.thumbnails import Thumbnails
from shared.images import Limits
from shared.messaging.celery_app import make_app
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.query import QueryClient
from shared.settings import Settings

_NAME = "artseek"
_MEMORY = 192 * 2**20


@dataclass(frozen=True, kw_only=True)
class WebClients(WorkerClients):
    """What the views work with: the clients of every worker, the query service, and the limits of a request.

    `memory` bounds the bytes of image files that all requests together hold.
    """

    settings: Settings
    limits: Limits
    query: QueryClient
    thumbnails: Thumbnails
    memory: MemoryBudget


def attach(app: Flask, settings: Settings) -> None:
    """Make the clients of the application; nothing is sent yet."""
    base = connect_worker(settings, make_app(settings, name="web"), store_connections=4 * settings.web_threads)
    limits = Limits(max_bytes=settings.max_file_bytes, max_pixels=settings.max_pixels)
    app.extensions[_NAME] = WebClients(
        store=base.store,
        state=base.state,
        connect_model=base.connect_model,
        queue=base.queue,
        settings=settings,
        limits=limits,
        query=QueryClient(settings.query_target),
        thumbnails=Thumbnails(base.store, limits),
        memory=MemoryBudget(max(_MEMORY, settings.max_file_bytes)),
    )


def web_clients() -> WebClients:
    """Return the clients of the application that answers this request."""
    clients: WebClients = current_app.extensions[_NAME]
    return clients
