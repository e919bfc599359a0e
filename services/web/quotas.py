"""Quotas: how often somebody may ask, and how much may be under way or stored, so that nobody starves the others.

On one's own machine, where all requests are of one person, nothing is counted but the disk.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from flask import Flask, current_app, request

from services.web.clients import WebClients, web_clients
from services.web.languages import marked, told
from services.web.problems import Problem
from services.web.requester import requester_key
from services.web.static_files import ENDPOINT as STATIC
from shared.access.openness import open_to_all
from shared.errors import Unavailable
from shared.messaging.job_submission import submit
from shared.settings import SETTINGS_FILE, Settings
from shared.state import connect
from shared.state.in_flight import InFlight, Load
from shared.state.jobs import Kind
from shared.state.rates import Allowance, Rate, Rates

_NAME: Final = "artseek-quotas"
_UNCOUNTED: Final = frozenset({STATIC, "ops.healthz", "ops.readyz", "ops.metrics"})
_READING: Final = frozenset(  # which look and change nothing, though they are sent by POST
    {
        "api.search",
        "api.search_across",
        "api.search_batch",
        "api.prove",
        "api.look_up_images",
        "api.export_images",
        "api.get_judged_files",
        "judging.training_files",
        "languages.choose",
        "selection.export_selection",
        "search.search_by_file",
        "search.results_by_file",
    }
)
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOO_OFTEN: Final = {  # what is said, by the name of a rate
    "requests": marked("you sent more than %(most)s requests a minute; go slower"),
    "changes": marked("you sent more than %(most)s changes a minute; go slower"),
    "pictures by address": marked("you sent more than %(most)s pictures by address a minute; go slower"),
    "tiles": marked("you sent more than %(most)s tiles a minute; go slower"),
}
_RETRY_S: Final = 5
_FULL_DISK_RETRY_S: Final = 60  # until somebody has made room
_TIMEOUT_S: Final = 1.0  # of Redis, for which every request waits; without it, each process counts for itself


@dataclass(frozen=True)
class Quotas:
    """The quotas of an application; a rate of None is not counted."""

    rates: Rates
    in_flight: InFlight
    requests: Rate | None
    changes: Rate | None
    fetches: Rate | None
    tiles: Rate | None
    kept_queries: Allowance | None
    counts_load: bool


def attach(app: Flask, settings: Settings, clients: WebClients) -> None:
    """Count every request to the application; call it after what finds out who sent it."""
    counts = not open_to_all(settings) or settings.insecure
    index = connect(settings.index_url.get_secret_value(), timeout_s=_TIMEOUT_S, retries=0)
    app.extensions[_NAME] = Quotas(
        rates=Rates(index),
        in_flight=InFlight(index, clients.state.jobs),
        requests=_rate("requests", settings.rate_requests) if counts else None,
        changes=_rate("changes", settings.rate_changes) if counts else None,
        fetches=_rate("pictures by address", settings.rate_changes) if counts else None,
        tiles=_rate("tiles", settings.rate_changes) if counts else None,
        kept_queries=_allowance(settings),
        counts_load=counts,
    )
    app.before_request(_count)


def _rate(name: str, per_minute: int) -> Rate | None:
    return Rate(name, per_minute) if per_minute else None


def _allowance(settings: Settings) -> Allowance | None:
    """Return how many bytes of pictures that were searched for a requester may have kept; None: none."""
    if not settings.kept_query_days or not settings.kept_query_bytes:
        return None
    seconds = 24 * 3600 * settings.kept_query_days
    return Allowance("bytes of kept queries", settings.kept_query_bytes, seconds)


def _quotas() -> Quotas:
    found: Quotas = current_app.extensions[_NAME]
    return found


def _count() -> None:
    quotas = _quotas()
    if request.endpoint in _UNCOUNTED:
        return
    changes = request.method not in _SAFE and request.endpoint not in _READING
    for rate in (quotas.requests, quotas.changes if changes else None):
        _take(rate)


def count_fetch() -> None:
    """Count a picture that this service is about to fetch for the requester, as many as they may change something.

    Raises:
        Problem: They had so many fetched within a minute.
    """
    _take(_quotas().fetches)


def count_tile() -> None:
    """Count a tile that is about to be cut for the requester, as many as they may change something.

    Raises:
        Problem: They had so many cut within a minute.
    """
    _take(_quotas().tiles)


def may_keep_query(size: int) -> bool:
    """Count a picture of so many bytes that is about to be kept for the requester; returns whether it may be."""
    allowance = _quotas().kept_queries
    if allowance is None or _full_disk(size):
        return False
    return _quotas().rates.take(allowance, requester_key(), size) <= 0


def _take(rate: Rate | None) -> None:
    if rate is not None:
        wait = _quotas().rates.take(rate, requester_key())
        if wait > 0:
            _refuse(told(_TOO_OFTEN[rate.name], most=rate.per_minute), math.ceil(wait))


class Room:
    """Room for a job of a requester, taken before it is handed in."""

    def __init__(self, kind: Kind, taken: str | None) -> None:
        self._kind, self._taken, self.is_used = kind, taken, False

    def use(self, job: str, *, images: int = 0) -> None:
        """Note the job that was handed in, and how many images of an upload are in it."""
        self.is_used = True
        if self._taken is not None:
            _quotas().in_flight.note(requester_key(), self._taken, job, self._kind, images)

    def give_back(self) -> None:
        """Give the room back, since there is no job; without Redis, it comes back by itself."""
        if self._taken is not None:
            with suppress(Unavailable):
                _quotas().in_flight.give_back(requester_key(), self._taken)


@contextmanager
def room_for(kind: Kind, *, images: int = 0) -> Iterator[Room]:
    """Take room for one more job of the requester over the block, which uses it; an upload counts its images.

    Raises:
        Problem: They have as much in flight as they may; trying again later helps.
    """
    room = Room(kind, _take_room(kind, images) if _quotas().counts_load else None)
    try:
        yield room
    finally:
        if not room.is_used:
            room.give_back()


def _take_room(kind: Kind, images: int) -> str:
    settings = web_clients().settings
    most = Load(settings.jobs_in_flight, settings.images_in_flight, settings.evaluations_in_flight)
    taken, load = _quotas().in_flight.take(requester_key(), kind, images, most)
    if taken is None:
        if load.jobs >= most.jobs:
            detail = marked("you have %(count)s jobs under way, as many as you may; wait for some of them to end")
            _refuse(told(detail, count=load.jobs))
        if images:
            detail = marked("you have %(count)s images under way and may have %(most)s; wait a while")
            _refuse(told(detail, count=load.images, most=most.images))
        detail = marked("you have %(count)s evaluations under way, as many as you may; wait for one to end")
        _refuse(told(detail, count=load.evaluations))
    return taken


def submit_counted(kind: Kind, collection: str, send: Callable[[str], None], *, job_id: str | None = None) -> str:
    """Submit a job of the requester that counts as theirs, as `job_submission.submit` does; returns its id.

    Raises:
        Problem: They have as much in flight as they may.
        Unavailable: Redis or the broker does not answer.
    """
    with room_for(kind) as room:
        job = submit(web_clients().state.jobs, kind, collection, send, job_id=job_id)
        room.use(job)
    return job


def check_room(size: int) -> None:
    """Make sure that there is room for so many bytes of new originals.

    Raises:
        Problem: The store may hold no more, or its disk, where that is ours, is nearly full.
        Unavailable: The query service, which knows how much there is, does not answer.
    """
    clients = web_clients()
    settings = clients.settings
    if settings.most_stored_bytes:
        stored = sum(collection.bytes for collection in clients.query.collections())
        if stored + size > settings.most_stored_bytes:
            raise Problem(
                507,
                "insufficient-storage",
                told(
                    "the originals have %(stored)s bytes, and together at most %(most)s are taken: "
                    "delete some for good, or raise ARTSEEK_MOST_STORED_BYTES",
                    stored=stored,
                    most=settings.most_stored_bytes,
                ),
            )
    if full := _full_disk(size):
        raise disk_is_full(full)


def _full_disk(size: int) -> str:
    """Return why the disk has no room for so many bytes, where it is one of ours; empty: it has."""
    settings = web_clients().settings
    if not (settings.data / SETTINGS_FILE).is_file():  # the store of `artseek up` lies beside it
        return ""
    disk = shutil.disk_usage(settings.data)
    if disk.free - size >= least_free(settings, disk.total):
        return ""
    return told(
        "only %(free)s MiB are free on the disk of the data folder: free some space, or move it to a larger disk",
        free=round(disk.free / 2**20),
    )


def least_free(settings: Settings, total: int) -> int:
    """Return the free bytes that uploads leave on a disk: half of those below which `artseek status` warns."""
    return max(settings.least_free_bytes, total // 50) // 2


def disk_is_full(detail: str) -> Problem:
    """Return what an upload is told while a disk has no room for it: to send it again later."""
    return Problem(503, "insufficient-storage", detail, headers={"Retry-After": str(_FULL_DISK_RETRY_S)})


def _refuse(detail: str, seconds: int = _RETRY_S) -> NoReturn:
    raise Problem(429, "too-many-requests", detail, headers={"Retry-After": str(seconds)})
