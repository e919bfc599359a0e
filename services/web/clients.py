"""The clients of the servers that the application works with, and how a view gets at them."""

from dataclasses import dataclass

from flask import Flask, current_app

from services.web.memory_budget import MemoryBudget
from services.web.thumbnails import Thumbnails
from shared.fetching.fetcher import Fetcher
from shared.images import Limits
from shared.images.decoder_pool import DecoderPool
from shared.index.derivatives import Derivatives
from shared.index.proofs import Proofs
from shared.index.proving import Prover
from shared.messaging.celery_app import make_app
from shared.messaging.worker import WorkerClients, connect_worker
from shared.rpc.query import QueryClient
from shared.rpc.query.connecting import connect_query
from shared.settings import Settings

EXTENSION = "artseek"
"""Under which name an application has its clients."""

_MEMORY = 192 * 2**20


@dataclass(frozen=True, kw_only=True)
class WebClients(WorkerClients):
    """What the views work with: the clients of every worker, the query service, and the limits of a request.

    `decoder` decodes images, and bounds how many requests wait for that, here or at the query service. `memory` bounds
    the bytes of image files that all requests together hold.
    """

    settings: Settings
    limits: Limits
    decoder: DecoderPool
    query: QueryClient
    thumbnails: Thumbnails
    derivatives: Derivatives
    prover: Prover
    memory: MemoryBudget
    fetcher: Fetcher


def attach(app: Flask, settings: Settings) -> None:
    """Make the clients of the application; nothing is sent yet."""
    base = connect_worker(settings, make_app(settings, name="web"), store_connections=4 * settings.web_threads)
    decoder = DecoderPool.from_settings(settings, threads=settings.web_threads)
    query = connect_query(settings)
    app.extensions[EXTENSION] = WebClients(
        store=base.store,
        state=base.state,
        connect_model=base.connect_model,
        queue=base.queue,
        settings=settings,
        limits=decoder.limits,
        decoder=decoder,
        query=query,
        thumbnails=Thumbnails(base.store, decoder),
        derivatives=Derivatives(base.store, decoder),
        prover=Prover(
            Proofs.from_settings(settings, base.store, threads=settings.web_threads), query, most=settings.proof_hits
        ),
        memory=MemoryBudget(max(_MEMORY, settings.max_query_bytes)),
        fetcher=Fetcher.from_settings(settings),
    )


def web_clients() -> WebClients:
    """Return the clients of the application that answers this request."""
    clients: WebClients = current_app.extensions[EXTENSION]
    return clients
