"""Decides at a request's header whether its body is read at all, and how long it may be."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from flask import Flask
from werkzeug.exceptions import HTTPException

from services.web.api.inputs import MAX_BATCH_JSON, MAX_JSON, MAX_TABLE
from services.web.api.operations import api, blueprint
from services.web.app import FORM_MEMORY
from services.web.http.request import Admission, Admit, Head
from services.web.languages import marked
from services.web.public_address import public_url
from services.web.quotas import disk_is_full
from shared.settings import Settings

_FORM_MARGIN: Final = MAX_JSON  # bytes of a form beside its file
_SMALL: Final = 64 * 1024  # bytes, where there is no body, or a form of a few fields; they need no disk
_LEAST_FREE: Final = 64 * 2**20
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def _query_bytes(kind: str, settings: Settings) -> int:
    """Return how long the body of a search may be, by its media type."""
    return MAX_JSON if kind == "application/json" else settings.max_query_bytes + _FORM_MARGIN


def _upload_bytes(_kind: str, settings: Settings) -> int:
    return settings.max_upload_bytes


def _fields_bytes(_kind: str, _settings: Settings) -> int:
    """Return how long a form without files may be: the most text that is taken, and what parts its fields."""
    return 2 * FORM_MEMORY


# By endpoint, what takes more than JSON where the API says that it takes that, and than a small body elsewhere.
_MOST: Final[Mapping[str, Callable[[str, Settings], int]]] = {
    "api.add_images": _upload_bytes,
    "api.keep_queries": _upload_bytes,
    "api.import_records": lambda _kind, settings: min(settings.max_upload_bytes, MAX_TABLE),
    "api.search": _query_bytes,
    "api.search_across": _query_bytes,
    "search.search_by_file": _query_bytes,
    "search.results_by_file": _query_bytes,
    "api.search_batch": lambda _kind, _settings: MAX_BATCH_JSON,
    "images.edit_record": _fields_bytes,
    "images.edit_many": _fields_bytes,
    "selection.export_selection": _fields_bytes,
    "selection.originals_of_selection": _fields_bytes,
    "judging.training_files": _fields_bytes,
    "links.make_link": _fields_bytes,
}


def _most(endpoint: str, kind: str, settings: Settings) -> int:
    """Return how many bytes the body of a request to an endpoint may have."""
    if endpoint in _MOST:
        return _MOST[endpoint](kind, settings)
    return MAX_JSON if endpoint in _with_json() else _SMALL


@cache
def _with_json() -> frozenset[str]:
    """Return the endpoints of the API that take JSON."""
    return frozenset(f"{blueprint.name}.{operation.view.__name__}" for operation in api.operations if operation.bodies)


def _has_room(size: int) -> bool:
    """Return whether the disk takes a body: what is read of it lies there, and then its files beside it."""
    return size <= _SMALL or shutil.disk_usage(tempfile.gettempdir()).free >= 2 * size + _LEAST_FREE


def admission_of(app: Flask, settings: Settings) -> Admit:
    """Return what decides for an application; it asks no other server, since all connections wait for it."""
    public = public_url(settings)
    prefix = public.prefix if public else ""
    routes = app.url_map.bind("")

    def admit(head: Head) -> Admission:
        if head.method not in _WITH_BODY:
            return Admission(most=_SMALL)
        path = head.path
        if path == prefix or path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        kind = head.headers.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        try:
            endpoint, _ = routes.match(path, method=head.method)
        except HTTPException:
            return Admission(most=_SMALL)
        most = _most(str(endpoint), kind, settings)
        size = most if head.length is None else head.length
        if size <= most and not _has_room(size):
            return Admission(error=disk_is_full(marked("the disk for uploads in progress is nearly full")))
        return Admission(most=most)

    return admit
