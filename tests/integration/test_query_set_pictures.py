"""What query sets have of pages of documents: a picture of each, which goes with the last set that names it."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.evaluation.judging import keep_under
from shared.evaluation.query_sets import UNKNOWN_SOURCE, LabelledQuery, QuerySet, QuerySets, source_of
from shared.storage import evaluation_layout, layout
from tests.support import rows
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers
from tests.support.trash import outcome


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


def a_page(parts: Parts, number: int, picture: bytes) -> LabelledQuery:
    """Store the picture of a page, and return the query."""
    query = LabelledQuery(rows.digest(number), "a.tif, page 2", "a", len(picture), file=layout.digest_of(picture))
    parts.store.put(evaluation_layout.query_key(query.stored), picture)
    return query


def stored(parts: Parts) -> set[bytes]:
    return {parts.store.get(item.key) for item in parts.store.list(evaluation_layout.QUERIES)}


def test_a_set_that_an_earlier_version_stored_opens_and_comes_from_who_knows_where(parts: Parts) -> None:
    sets = QuerySets(parts.store, parts.state)
    plain, page = LabelledQuery(rows.digest(1), "1.jpg", "a", 1), a_page(parts, 2, b"a picture")
    made = QuerySet.of((plain, page))
    stored = [{name: value for name, value in query.to_json().items() if name != "sources"} for query in made.queries]
    for values in ({"format": 2, "queries": stored}, stored):
        parts.store.put(evaluation_layout.query_set_key(made.digest), json.dumps(values).encode())
        assert [query.sources for query in sets.get(made.digest).queries] == [(UNKNOWN_SOURCE,)] * 2
    sets.replace(made.digest, sets.get(made.digest).queries[:1])
    assert sets.get(made.digest).queries[0].sources == (UNKNOWN_SOURCE,)
    sets.add(made)  # whoever brings the files again tells
    assert sets.get(made.digest).queries == made.queries


def test_a_query_that_is_brought_twice_comes_from_all_that_it_was_brought_from(parts: Parts) -> None:
    sets = QuerySets(parts.store, parts.state)
    copied, sent = (LabelledQuery(rows.digest(1), "1.jpg", "a", 1, sources=known) for known in ((source_of(1.5),), ()))
    other = replace(copied, sources=(source_of(2.5),))
    assert QuerySet.of([sent, copied]).queries[0].sources == ("1.5",)
    for query in (copied, sent, other, sent):
        sets.add(QuerySet.of([query]))
    assert sets.get(QuerySet.of([sent]).digest).queries[0].sources == ("1.5", "2.5")


def test_another_picture_of_a_page_takes_the_place_of_the_first(parts: Parts) -> None:
    sets = QuerySets(parts.store, parts.state)

    def kept(*pictures: tuple[int, bytes]) -> Sequence[LabelledQuery]:
        return keep_under(
            sets, "kept", lambda: [a_page(parts, number, picture) for number, picture in pictures], adds=True
        ).queries

    kept((1, b"a picture"), (2, b"another"))
    queries = kept((1, b"a picture, made anew"))
    assert len(queries) == 2
    assert stored(parts) == {parts.store.get(evaluation_layout.query_key(query.stored)) for query in queries}
    assert len(stored(parts)) == 2
    sets.drop("kept")
    assert stored(parts) == set()


def test_the_picture_of_a_purged_page_goes_unless_another_page_looks_the_same(parts: Parts) -> None:
    sets = QuerySets(parts.store, parts.state)
    parts.add(parts.collection(), "a", [1, 2, 3, 4])
    pictures = {1: b"a picture", 2: b"another", 3: b"blank", 4: b"blank"}
    sets.add(QuerySet.of(a_page(parts, number, picture) for number, picture in pictures.items()), name="kept")
    assert outcome(parts, parts.purge("art", rows.ids([1, 3]))) == (True, 2, [])
    assert stored(parts) == {b"another", b"blank"}
    digests = {query.digest for query in sets.get(sets.kept("kept")).queries}
    assert digests == {rows.digest(2), rows.digest(4)}
