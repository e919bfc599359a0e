"""The pages of quality as they are served: what stands in them without scripts, what they refuse, who may load what."""

import html
import re
from dataclasses import replace

import pytest

from shared.evaluation.evaluations import Evaluations
from shared.storage.object_store import ObjectStore
from tests.support.stack import Stack
from tests.support.web_client import Client


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def evaluation(client: Client) -> str:
    """The id of an evaluation of ``default`` by a sample."""
    asked = {"collection": "default", "sample": 8, "k": 5, "seed": 7}
    job = client.call("POST /evaluations", value=asked).json["job"]
    client.finished(job)
    return str(job)


def text_of(client: Client, path: str) -> str:
    reply = client.send("GET", path)
    assert reply.status == 200, reply.body[:300]
    return html.unescape(reply.body.decode())


def test_the_figures_stand_in_the_pages_without_any_script(client: Client, evaluation: str) -> None:
    report = client.call("GET /evaluations/{id}", id=evaluation).json
    page = text_of(client, f"/evaluations/default/{evaluation}")
    table = page[page.index('<table id="runs"') :]
    for run in report["runs"]:
        row = table[table.index(f'data-run="{run["id"]}"') :].partition("</tr>")[0]
        shown = re.findall(r'class="figure">([\d.]+)<', row)
        assert shown[:3] == [f"{run[name]:.3f}" for name in ("p_at_k", "ap_at_k", "recall_at_k")]
    assert "Queries that the collection holds" not in page  # a sample is made of them
    quality = text_of(client, "/collections/default/quality")
    assert f'href="/evaluations/default/{evaluation}"' in quality
    assert 'href="/collections/default/quality"' in text_of(client, "/collections/default")
    both = text_of(client, f"/evaluations/compare?a={evaluation}&b={evaluation}")
    assert re.search(r"8 in both: <span[^>]*>0</span> better in B, <span[^>]*>0</span> worse, 0 with other hits", both)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/evaluations/default/none", 404),
        ("/evaluations/none/{id}", 404),
        ("/evaluations/default/{id}?run=none", 404),
        ("/evaluations/default/{id}?run=%3Cscript%3E", 422),
        ("/evaluations/default/{id}?measure=beauty", 422),
        ("/evaluations/default/{id}?page=0", 422),
        ("/evaluations/Default/{id}", 422),
        ("/evaluations/default/..%2f..%2fsecrets", 404),
        ("/evaluations/compare?a={id}", 422),
        ("/evaluations/compare?a={id}&b=none", 404),
        ("/collections/never-there/quality", 404),
        ("/collections/default/quality?page=0", 422),
        (f"/evaluations/default/{{id}}/queries/{'a' * 64}/thumbnail", 404),
        ("/evaluations/default/{id}/queries/settings.env/thumbnail", 422),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_said(client: Client, evaluation: str, path: str, status: int) -> None:
    reply = client.send("GET", path.replace("{id}", evaluation))
    assert reply.status == status
    assert b"Traceback" not in reply.body
    assert b"<script>" not in reply.body


def test_scripts_come_from_here_and_from_nowhere_else(client: Client, evaluation: str) -> None:
    for path in (f"/evaluations/default/{evaluation}", "/collections/default/quality"):
        reply = client.send("GET", path)
        policy = reply.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        page = reply.body.decode()
        loaded = re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="([^"]*)"', page)
        assert all(address.startswith("/") and not address.startswith("//") for address in loaded)
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", page)
    charts = client.send("GET", "/static/js/charts.js").body.decode()
    library = re.search(r'from "\.\./(vendor/[^"]+)"', charts)
    assert library
    served = client.send("GET", f"/static/{library[1]}")
    assert (served.status, served.kind) == (200, "text/javascript")


def test_a_grid_is_evaluated_by_the_api(client: Client) -> None:
    grid = [{"tables": [2, 4], "hashes": 4, "width": 0.6, "probes": 1}, {"family": "voronoi", "cells": 4, "probes": 2}]
    asked = {"collection": "default", "sample": 6, "k": 3, "grid": grid}
    job = client.call("POST /evaluations", value=asked).json["job"]
    assert client.finished(job)["rejected"] == []
    report = client.call("GET /evaluations/{id}", id=job).json
    wanted = [("p-stable", 2), ("p-stable", 4), ("voronoi", None)]
    assert [(setting["setting"]["family"], setting["setting"].get("tables")) for setting in report["grid"]] == wanted
    assert all(len(setting["runs"]) == 4 for setting in report["grid"])
    one = {"collection": "default", "sample": 6, "k": 3, "grid": {"tables": 2}}
    job = client.call("POST /evaluations", value=one).json["job"]
    client.finished(job)
    assert len(client.call("GET /evaluations/{id}", id=job).json["grid"]) == 1


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"tabels": 2}, "entry 0 of the grid has 'tabels', expected some of family, space, tables"),
        ([{"tables": 2}, {"tables": 0}], "entry 1 of the grid: tables is 0, expected 1 to 256"),
        ({"tables": []}, "tables is an empty list"),
        ([], "the grid has no settings"),
        (None, "entry 0 of the grid is None, expected an object"),
        ("tables", "entry 0 of the grid is 'tables', expected an object"),
        ({"tables": list(range(1, 21)), "hashes": list(range(1, 21))}, "more than 256 settings"),
        ({"<script>": 1}, "<script>"),
    ],
)
def test_a_grid_that_is_none_is_refused_before_anything_is_begun(client: Client, grid: object, said: str) -> None:
    before = client.call("GET /evaluations").json["total"]
    reply = client.call("POST /evaluations", value={"collection": "default", "sample": 6, "grid": grid})
    assert reply.status == 422
    (error,) = reply.json["errors"]
    assert error["field"] == "body.grid"
    assert said in error["message"]
    assert client.call("GET /evaluations").json["total"] == before


def test_all_evaluations_are_listed_the_newest_first(client: Client, evaluation: str) -> None:
    page = text_of(client, "/evaluations")
    listed = client.call("GET /evaluations", query={"limit": 50}).json["evaluations"]
    ids = re.findall(r'<tr data-id="([^"]+)"', page)
    assert ids == [evaluation["id"] for evaluation in listed]
    assert evaluation in ids
    for shown in listed:
        row = page[page.index(f'data-id="{shown["id"]}"') :].partition("</tr>")[0]
        best = next((run for run in shown["runs"] if run["id"] == "lsh-cosine-all"), shown["runs"][0])
        assert re.findall(r'class="figure">([\d.]+)<', row) == [
            f"{best[name]:.3f}" for name in ("p_at_k", "ap_at_k", "recall_at_k")
        ]
        assert f'href="/evaluations/{shown["collection"]}/{shown["id"]}"' in row
        assert f'href="/collections/{shown["collection"]}/quality"' in row
        assert f"<td>{shown['settings'] or '–'}</td>" in row
    assert "no evaluations this far back" in text_of(client, "/evaluations?page=900000")
    for path in ("/", "/collections", "/evaluations"):
        assert '<a href="/evaluations"' in text_of(client, path)
    for wrong in ("0", "x", "1&page=2"):
        assert client.send("GET", f"/evaluations?page={wrong}").status == 422


def test_pages_of_evaluations_follow_each_other(stack: Stack, client: Client, evaluation: str) -> None:
    evaluations = Evaluations(ObjectStore.from_settings(stack.settings))
    report = evaluations.get("default", evaluation)
    old = [f"{number:020d}" for number in range(60)]
    for old_id in old:
        evaluations.put("default", replace(report, id=old_id), b"")
    try:
        total = client.call("GET /evaluations").json["total"]
        pages = [text_of(client, f"/evaluations?page={page}") for page in range(1, -(-total // 50) + 1)]
        ids = [found_id for page in pages for found_id in re.findall(r'<tr data-id="([^"]+)"', page)]
        assert len(ids) == len(set(ids)) == total
        assert ids == sorted(ids, reverse=True)
        assert 'rel="next" href="/evaluations?page=2"' in pages[0]
        assert 'rel="prev" href="/evaluations"' in pages[1]
    finally:
        for entry in old:
            evaluations.delete("default", entry)
