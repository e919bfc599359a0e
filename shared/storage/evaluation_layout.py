"""Where evaluations, duplicates and queries lie in the object store.

evaluations/<collection>/<id>.json, .parquet          how good a collection's answers were found to be
evaluating/<id>/<part>                                parts of an evaluation that is under way
duplicates/<collection>/reports/<id>.json             which images of a collection show the same
duplicates/<collection>/verdicts/<a>-<b>/<verdict>    what somebody judged of a pair of images
duplicating/<id>/<part>                               parts of a search for duplicates that is under way
querysets/<digest>/queries.json                       a set of labelled queries, by its content
querysets/<digest>/users/<id>                         empty markers: this evaluation used it
querysets/names/<name>.json                           which set is kept under a name
queries/<sha256>                                      originals of queries, shared by all sets
embeddings/<model>/<version>/<sha256>                 embeddings of queries
kept-queries/<collection>/<sha256>/<time>-<random>    pictures that were searched for, kept for a while
kept-queries/<collection>/<sha256>/….json             what each was called, and when it was searched for
"""

import re
import secrets
from urllib.parse import quote

from shared.storage.layout import DIGEST_PATTERN, NAME_PATTERN

EVALUATING = "evaluating/"
EVALUATIONS = "evaluations/"
DUPLICATES = "duplicates/"
DUPLICATING = "duplicating/"
QUERY_SETS = "querysets/"
KEPT_SETS = "querysets/names/"
QUERIES = "queries/"
EMBEDDINGS = "embeddings/"
KEPT_QUERIES = "kept-queries/"
_KEPT_QUERY = re.compile(
    rf"{KEPT_QUERIES}{NAME_PATTERN.pattern}/({DIGEST_PATTERN.pattern})/([0-9a-f]{{12}})-[0-9a-f]{{8}}(?:\.json)?"
)


def evaluations_prefix(collection: str) -> str:
    """Return what the keys of a collection's evaluations start with."""
    return f"{EVALUATIONS}{collection}/"


def evaluation_key(collection: str, evaluation: str) -> str:
    """Return the key of an evaluation."""
    return f"{evaluations_prefix(collection)}{evaluation}.json"


def evaluation_rows_key(collection: str, evaluation: str) -> str:
    """Return the key of an evaluation's rows, one for each query of each run."""
    return f"{evaluations_prefix(collection)}{evaluation}.parquet"


def evaluating_prefix(evaluation: str) -> str:
    """Return what the keys of the parts of an evaluation under way start with."""
    return f"{EVALUATING}{evaluation}/"


def duplicates_prefix(collection: str) -> str:
    """Return what the keys of all that is known of a collection's duplicates start with."""
    return f"{DUPLICATES}{collection}/"


def duplicate_reports_prefix(collection: str) -> str:
    """Return what the keys of the reports on a collection's duplicates start with."""
    return f"{duplicates_prefix(collection)}reports/"


def duplicate_report_key(collection: str, report: str) -> str:
    """Return the key of a report on a collection's duplicates."""
    return f"{duplicate_reports_prefix(collection)}{report}.json"


def verdicts_prefix(collection: str, a: int | None = None, b: int | None = None) -> str:
    """Return what the keys of the verdicts on pairs of a collection start with, or of those on one pair."""
    return f"{duplicates_prefix(collection)}verdicts/" + (f"{a}-{b}/" if a is not None else "")


def duplicating_prefix(search: str) -> str:
    """Return what the keys of the parts of a search for duplicates under way start with."""
    return f"{DUPLICATING}{search}/"


def query_set_prefix(digest: str) -> str:
    """Return what the keys of a query set start with."""
    return f"{QUERY_SETS}{digest}/"


def query_set_key(digest: str) -> str:
    """Return the key of a query set."""
    return f"{query_set_prefix(digest)}queries.json"


def query_set_users_prefix(digest: str) -> str:
    """Return what the keys of the markers of a query set's users start with."""
    return f"{query_set_prefix(digest)}users/"


def kept_set_key(name: str) -> str:
    """Return the key of the object that says which query set is kept under a name."""
    return f"{KEPT_SETS}{name}.json"


def query_key(digest: str) -> str:
    """Return the key of a query's original."""
    return f"{QUERIES}{digest}"


def embedding_key(model: str, version: int, digest: str) -> str:
    """Return the key of a query's embedding."""
    return f"{EMBEDDINGS}{quote(model, safe='')}/{version}/{digest}"


def kept_queries_prefix(collection: str) -> str:
    """Return what the keys of the pictures start with that were searched for in a collection."""
    return f"{KEPT_QUERIES}{collection}/"


def kept_query_prefix(collection: str, digest: str) -> str:
    """Return what the keys start with under which a picture is kept that was searched for in a collection."""
    return f"{kept_queries_prefix(collection)}{digest}/"


def new_kept_query(collection: str, digest: str, stored: float) -> str:
    """Return a key for a picture that was searched for, never given twice; `stored` in seconds since 1970."""
    return f"{kept_query_prefix(collection, digest)}{int(1000 * stored):012x}-{secrets.token_hex(4)}"


def kept_query_of(key: str) -> tuple[str, float] | None:
    """Return the digest of a kept query and when it was stored, by its key or that of its JSON; None for another."""
    found = _KEPT_QUERY.fullmatch(key)
    return (found[1], int(found[2], 16) / 1000) if found else None
