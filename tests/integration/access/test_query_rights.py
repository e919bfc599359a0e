"""Pictures of a private collection in kept query sets: who sees them, and who may use such a set."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from flask import Flask

from services.web.clients import EXTENSION
from shared.access import AccessStore, Grant
from shared.errors import Unavailable
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import UNKNOWN_SOURCE, LabelledQuery, QuerySet, QuerySets, source_of
from shared.evaluation.redaction import NO_DIGEST
from shared.evaluation.rows import ROWS, parquet
from shared.rpc.query import Collection, Image, QueryClient
from shared.state import Rejection
from shared.storage import evaluation_layout, layout
from tests.support.evaluation_reports import a_query_set, a_report, a_run

ART, MAPS = (
    Collection(name=name, created=created, model="m", images=9, labelled=9)
    for name, created in (("art", 1.5), ("maps", 2.5))
)
PICTURES = {"secret.jpg": b"of maps", "sent.jpg": b"sent", "old.jpg": b"who knows"}
SOURCES = {"secret.jpg": (source_of(2.5),), "sent.jpg": (), "old.jpg": (UNKNOWN_SOURCE,)}
DIGESTS = {name: layout.digest_of(data) for name, data in PICTURES.items()}
API = "/api/v1"


@pytest.fixture(autouse=True)
def collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query service that has the collections `art` and `maps`, and image 7 in both."""
    known = {found.name: found for found in (ART, MAPS)}
    image = Image(id=7, name="7.jpg", digest=layout.digest_of(b"seven"), size=5)
    monkeypatch.setattr(QueryClient, "collection", lambda _, name: known[name])
    monkeypatch.setattr(QueryClient, "collections", lambda _: list(known.values()))
    monkeypatch.setattr(QueryClient, "image", lambda *_: image)
    monkeypatch.setattr("services.web.thumbnails.Thumbnails.get", lambda *_, **__: b"jpeg")


@pytest.fixture
def sets(app: Flask) -> QuerySets:
    clients = app.extensions[EXTENSION]
    return QuerySets(clients.store, clients.state)


class Asking:
    """Somebody with an API key."""

    def __init__(self, app: Flask, access: AccessStore, *grants: Grant) -> None:
        self._client = app.test_client()
        self._headers = {"Authorization": f"Bearer {access.create_key(grants, by='test')[1]}"}

    def send(self, method: str, path: str, **more: Any) -> Any:
        return self._client.open(path, method=method, headers=self._headers, **more)

    def text(self, path: str) -> str:
        answer = self.send("GET", path)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return str(answer.get_data(as_text=True))


@pytest.fixture
def curator(app: Flask, access: AccessStore) -> Asking:
    """A curator of the collection `art`, and of no other."""
    return Asking(app, access, Grant("curator", "art"))


def evaluate(sets: QuerySets, names: Sequence[str] = tuple(PICTURES)) -> None:
    """Keep a set under the name `kept`, and write an evaluation of `art` by it."""
    queries = QuerySet.of(LabelledQuery(DIGESTS[name], name, "a", 1, sources=SOURCES[name]) for name in names)
    with sets.changing():
        sets.add(queries, name="kept")
    (copy,) = a_query_set().copies or ()
    copies = tuple(replace(copy, name=query.name, digest=query.digest) for query in queries.queries)
    rejected = (Rejection("page.tif", "odd", "it is odd"),)
    report = a_report(
        query_set=a_query_set(kind="kept", name="kept", digest=queries.digest, copies=copies, rejected=rejected),
        runs=(a_run("exact-cosine-all"), a_run("lsh-cosine-all")),
    )
    report = replace(report, collection=replace(report.collection, name="art"))
    row = {
        "run": report.runs[0].id, "label": "a", "in_collection": False, "relevant": 1, "hits": [], "hit_labels": [],
        "distances": [], "scores": [], "p_at_k": 1.0, "ap_at_k": 1.0, "recall_at_k": 1.0, "candidates": 1, "seen": 1,
        "latency_ms": 1.0,
    }  # fmt: skip
    every = [
        {**row, "query": place, "digest": query.digest, "id": layout.image_id(query.digest), "name": query.name}
        for place, query in enumerate(queries.queries)
    ]
    changed = [
        {**values, "run": report.runs[1].id, "hits": [7], "hit_labels": [""], "distances": [0.5], "scores": [0.5]}
        for values in every
    ]
    Evaluations(sets._store).put("art", report, parquet(pa.Table.from_pylist([*every, *changed], schema=ROWS)))
    for name in names:
        sets._store.put(evaluation_layout.query_key(DIGESTS[name]), PICTURES[name])


def evaluated(sets: QuerySets) -> tuple[str, str, str]:
    """Return the id of the evaluation, and two runs of it."""
    ((_, evaluation),) = Evaluations(sets._store).ids("art")
    report = Evaluations(sets._store).get("art", evaluation)
    return evaluation, report.runs[0].id, report.runs[1].id


@pytest.mark.parametrize(
    ("grants", "shown"),
    [
        ((Grant("curator", "art"),), {"sent.jpg"}),
        ((Grant("viewer", "art"), Grant("viewer", "maps")), {"sent.jpg", "secret.jpg"}),
        ((Grant("viewer"),), {"sent.jpg", "secret.jpg", "old.jpg"}),
    ],
)
def test_queries_are_shown_to_those_who_may_look_at_what_they_come_from(
    app: Flask, access: AccessStore, sets: QuerySets, grants: tuple[Grant, ...], shown: set[str]
) -> None:
    evaluate(sets)
    asking, (evaluation, first, second) = Asking(app, access, *grants), evaluated(sets)
    hidden = PICTURES.keys() - shown
    answer = asking.send("GET", f"{API}/evaluations/{evaluation}/queries").json
    assert {row["name"] for row in answer["queries"]} == shown | ({""} if hidden else set())
    assert [row["p_at_k"] for row in answer["queries"]] == [1.0] * 3
    for row in answer["queries"]:
        assert (row["digest"], row["id"]) == (
            (DIGESTS[row["name"]], layout.image_id(DIGESTS[row["name"]])) if row["name"] else (NO_DIGEST, 0)
        )
    report = asking.send("GET", f"{API}/evaluations/{evaluation}").json
    assert {copy["name"] for copy in report["query_set"]["copies"]} == shown
    summary = asking.send("GET", f"{API}/evaluations").json["evaluations"][0]
    assert summary["copied"] == 3
    assert {query_set["rejected"][0]["name"] for query_set in (report["query_set"], summary["query_set"])} == (
        {""} if hidden else {"page.tif"}
    )
    page = f"/evaluations/art/{evaluation}"
    for path in (
        f"{page}?run={first}",
        f"/evaluations/compare?a={evaluation}&b={evaluation}&run_a={first}&run_b={second}",
    ):
        text = asking.text(path)
        assert {name for name in PICTURES if name in text} == shown
        assert {name for name in PICTURES if DIGESTS[name] in text} == shown
    for name in PICTURES:
        status = asking.send("GET", f"{page}/queries/{DIGESTS[name]}/thumbnail").status_code
        assert status == (200 if name in shown else 404)


def test_a_set_is_used_and_changed_by_those_alone_who_see_all_of_it(
    app: Flask, access: AccessStore, sets: QuerySets, curator: Asking
) -> None:
    both = Asking(app, access, Grant("curator", "art"), Grant("viewer", "maps"))

    def uses(asking: Asking) -> list[int]:
        form = {"name": "kept", "label": "a", "add": "true", "images": (io.BytesIO(b"no picture"), "a.jpg")}
        round_ = {"label": "b", "like": [7], "queries": "kept"}
        return [
            asking.send("POST", f"{API}/evaluations", json={"collection": "art", "queries": "kept"}).status_code,
            asking.send("POST", f"{API}/querysets", data=form).status_code,
            asking.send("POST", f"{API}/collections/art/judgements/queries", json=round_).status_code,
            asking.send("DELETE", f"{API}/querysets/kept").status_code,
        ]

    sets._store.put(layout.original_key(layout.digest_of(b"seven")), b"seven")
    for name in ("secret.jpg", "old.jpg"):
        evaluate(sets, [name])
        assert uses(curator) == [403] * 4
        assert [query.name for query in sets.get(sets.kept("kept")).queries] == [name]
        assert 'value="kept"' not in curator.text("/collections/art/quality")
    listed = curator.send("GET", f"{API}/querysets").json["querysets"]
    assert listed == [{"name": "kept", "queries": 1, "classes": {"a": 1}}]
    assert uses(both) == [403] * 4  # of the set that an earlier version stored
    evaluate(sets, ["secret.jpg"])
    assert 'value="kept"' in both.text("/collections/art/quality")
    assert 403 not in uses(both)
    evaluate(sets, ["sent.jpg"])
    assert 403 not in uses(curator)


def test_pictures_that_are_kept_from_a_search_come_from_its_collection(
    app: Flask, access: AccessStore, sets: QuerySets, curator: Asking
) -> None:
    data = b"seven"
    sets._store.put(layout.original_key(hashlib.sha256(data).hexdigest()), data)
    round_ = {"label": "a", "like": [7], "queries": "round"}
    owner = Asking(app, access, Grant("curator"))
    assert owner.send("POST", f"{API}/collections/maps/judgements/queries", json=round_).status_code == 201
    assert [query.sources for query in sets.get(sets.kept("round")).queries] == [("2.5",)]
    asked = {"collection": "art", "queries": "round"}
    answer = curator.send("POST", f"{API}/evaluations", json=asked)
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert "maps" not in answer.get_data(as_text=True)


def test_while_nobody_tells_which_collections_there_are_nothing_of_theirs_is_shown(
    sets: QuerySets, curator: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> list[Collection]:
        raise Unavailable("away")

    monkeypatch.setattr(QueryClient, "collections", away)
    evaluate(sets)
    answer = curator.send("GET", f"{API}/evaluations/{evaluated(sets)[0]}/queries").json
    assert {row["name"] for row in answer["queries"]} == {"", "sent.jpg"}
