"""Paths of the REST API."""

API = "/api/v1"


def image_url(collection: str, image: int, leaf: str = "") -> str:
    """Return the path of an image's entry, or of its ``/original`` or ``/thumbnail``."""
    return f"{API}/collections/{collection}/images/{image}{leaf}"


def job_url(job: str) -> str:
    """Return the path of a job."""
    return f"{API}/jobs/{job}"
