"""The REST API, below ``/api/v1``."""

from services.web.api import (
    collections,
    duplicates,
    evaluations,
    files,
    images,
    jobs,
    paths,
    proof,
    query_sets,
    recall,
    records,
    regions,
    search,
    selections,
    shares,
    trash,
    users,
)
from services.web.api.operations import api, blueprint

__all__ = [
    "api",
    "blueprint",
    "collections",
    "duplicates",
    "evaluations",
    "files",
    "images",
    "jobs",
    "paths",
    "proof",
    "query_sets",
    "recall",
    "records",
    "regions",
    "search",
    "selections",
    "shares",
    "trash",
    "users",
]
