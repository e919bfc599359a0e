"""The servers that the application works with, and how a view gets at them."""

from dataclasses import dataclass

from flask import Flask, current_app

from services.web.memory_budget import MemoryBudget
from services.web.thumbnails import Thumbnails
from shared.images import Limits
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue
from shared.rpc.query import QueryClient
from shared.settings import Settings
from shared.state import Jobs, State, connect
from shared.state.recall_log import RecallLog
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore

_NAME = "artseek"
_MEMORY = 192 * 2**20


@dataclass(frozen=True)
class Parts:
    """What the views work with.

    `memory` bounds the bytes of image files that all requests together hold.
    """

    settings: Settings
    limits: Limits
    query: QueryClient
    store: ObjectStore
    catalog: Catalog
    state: State
    jobs: Jobs
    recall: RecallLog
    queue: TaskQueue
    thumbnails: Thumbnails
    memory: MemoryBudget


def attach(app: Flask, settings: Settings) -> None:
    """Make the clients of the application; nothing is sent yet."""
    store = ObjectStore.from_settings(settings, connections=4 * settings.web_threads)
    index = connect(settings.index_url.get_secret_value())
    limits = Limits(max_bytes=settings.max_file_bytes, max_pixels=settings.max_pixels)
    app.extensions[_NAME] = Parts(
        settings=settings,
        limits=limits,
        query=QueryClient(settings.query_target),
        store=store,
        catalog=Catalog(store),
        state=State.of(index),
        jobs=Jobs(index),
        recall=RecallLog(index),
        queue=TaskQueue(make_app(settings, name="web")),
        thumbnails=Thumbnails(store, limits),
        memory=MemoryBudget(max(_MEMORY, settings.max_file_bytes)),
    )


def parts() -> Parts:
    """Return the servers of the application that answers this request."""
    found: Parts = current_app.extensions[_NAME]
    return found
