"""The REST API, below ``/api/v1``."""

from services.web.api import collections, files, images, jobs, search
from services.web.api.table import api, blueprint

__all__ = ["api", "blueprint", "collections", "files", "images", "jobs", "search"]
