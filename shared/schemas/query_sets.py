"""Query sets that are kept under names, as API and `--json` tell of them."""

from collections import Counter

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.evaluation.query_sets import QuerySet
from shared.schemas.refusals import Refusal


class KeptSetAnswer(TypedDict):
    """A query set that is kept under a name: how many queries it has, in all and of each class."""

    name: str
    queries: int
    classes: dict[str, int]


class KeptSetsAnswer(TypedDict):
    """All query sets that are kept under names."""

    querysets: list[KeptSetAnswer]


class QueriesTakenAnswer(KeptSetAnswer):
    """A query set as it is now, and which files of the request are no queries."""

    rejected: list[Refusal]


class KeptRoundAnswer(QueriesTakenAnswer):
    """A query set after a round of judging; `of_class` counts the images of the collection that have the label.

    These are what the queries are to find: without any, an evaluation of this collection finds nothing right.
    """

    of_class: int


def kept_set_answer(name: str, queries: QuerySet) -> KeptSetAnswer:
    """Return a set that is kept under a name."""
    classes = Counter(query.label for query in queries.queries)
    return KeptSetAnswer(name=name, queries=len(queries.queries), classes=dict(sorted(classes.items())))
