"""Paths of the REST API."""

from contextvars import ContextVar

API = "/api/v1"

_prefix: ContextVar[str] = ContextVar("url_prefix", default="")


def set_url_prefix(prefix: str) -> None:
    """Set the path under which the service lies that answers in this thread; all paths made here begin with it."""
    _prefix.set(prefix)


def api_url(path: str) -> str:
    """Return the path of something below the API's root: ``api_url("/jobs")``."""
    return f"{_prefix.get()}{API}{path}"


def image_url(collection: str, image: int, leaf: str = "") -> str:
    """Return the path of an image's entry, or of its ``/original`` or ``/thumbnail``."""
    return api_url(f"/collections/{collection}/images/{image}{leaf}")


def trash_url(collection: str, image: int, leaf: str = "") -> str:
    """Return the path of an image in the trash, or of its ``/thumbnail`` or ``/restore``."""
    return api_url(f"/collections/{collection}/trash/{image}{leaf}")


def job_url(job: str) -> str:
    """Return the path of a job."""
    return api_url(f"/jobs/{job}")
