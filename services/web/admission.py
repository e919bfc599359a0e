"""Decides at a request's header whether its body is read at all, and how long it may be."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Final

from flask import Flask
from werkzeug.exceptions import HTTPException

from services.web.api.inputs import MAX_BATCH_JSON, MAX_JSON
from services.web.http.request import Admission, Admit, Head
from services.web.languages import marked
from services.web.public_address import public_url
from services.web.quotas import disk_is_full
from shared.settings import Settings

_FORM_MARGIN: Final = MAX_JSON  # bytes of a form beside its file
_NO_BODY: Final = 64 * 1024  # bytes, where none is looked at
_IN_MEMORY: Final = 64 * 1024  # bytes of a body that need no disk
_LEAST_FREE: Final = 64 * 2**20
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def _query_bytes(kind: str, settings: Settings) -> int:
    """Return how long the body of a search may be, by its media type."""
    return MAX_JSON if kind == "application/json" else settings.max_query_bytes + _FORM_MARGIN


# By endpoint; any other may get as much as an upload.
_MOST: Final[Mapping[str, Callable[[str, Settings], int]]] = {
    "api.search": _query_bytes,
    "api.search_across": _query_bytes,
    "search.search_by_file": _query_bytes,
    "search.results_by_file": _query_bytes,
    "api.search_batch": lambda _kind, _settings: MAX_BATCH_JSON,
    "api.judge_collection": lambda _kind, _settings: MAX_JSON,
    "api.delete_images": lambda _kind, _settings: MAX_JSON,
    "api.look_up_images": lambda _kind, _settings: MAX_JSON,
    "api.export_images": lambda _kind, _settings: MAX_JSON,
    "api.get_originals": lambda _kind, _settings: MAX_JSON,
    "api.keep_judged_queries": lambda _kind, _settings: MAX_JSON,
    "api.get_judged_files": lambda _kind, _settings: MAX_JSON,
    "judging.training_files": lambda _kind, _settings: MAX_JSON,
    "api.put_regions": lambda _kind, _settings: MAX_JSON,
    "api.rename_collection": lambda _kind, _settings: MAX_JSON,
    "api.make_share_link": lambda _kind, _settings: MAX_JSON,
    "api.add_user": lambda _kind, _settings: MAX_JSON,
    "api.change_user": lambda _kind, _settings: MAX_JSON,
    "languages.choose": lambda _kind, _settings: _NO_BODY,
}


def _has_room(size: int) -> bool:
    """Return whether the disk takes a body: what is read of it lies there, and then its files beside it."""
    return size <= _IN_MEMORY or shutil.disk_usage(tempfile.gettempdir()).free >= 2 * size + _LEAST_FREE


def admission_of(app: Flask, settings: Settings) -> Admit:
    """Return what decides for an application; it asks no other server, since all connections wait for it."""
    public = public_url(settings)
    prefix = public.prefix if public else ""
    routes = app.url_map.bind("")

    def admit(head: Head) -> Admission:
        if head.method not in _WITH_BODY:
            return Admission(most=_NO_BODY)
        path = head.path
        if path == prefix or path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        kind = head.headers.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        try:
            endpoint, _ = routes.match(path, method=head.method)
        except HTTPException:
            return Admission(most=_NO_BODY)
        if not _has_room(head.length):
            return Admission(error=disk_is_full(marked("the disk for uploads in progress is nearly full")))
        most = _MOST.get(str(endpoint))
        return Admission(most=most(kind, settings) if most else settings.max_upload_bytes)

    return admit
