"""Jobs as people and programs see them: the REST API, the pages and `artseek jobs`, on the servers alone."""

import json
import re
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from cli.main import main
from services.web.app import create_app
from services.web.pages.jobs import KIND_TITLES
from shared.state import Client, Jobs, Rejection
from shared.state.jobs import Kind
from shared.state.outcomes import Outcome
from tests.support.servers import Servers

HOSTILE = "<script>alert(1)</script>.jpg"


@pytest.fixture
def web(servers: Servers) -> FlaskClient:
    return create_app(servers.settings).test_client()


@pytest.fixture
def artseek(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {**servers.environment, "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, ["jobs", *arguments])
        assert done.exit_code == status, done.output
        return done.output

    return run


@pytest.fixture(autouse=True)
def jobs(redis: Client) -> Jobs:
    """An ingest under way, a deletion that is done, and an ingest of another collection with reasons."""
    jobs = Jobs(redis)
    jobs.create("a-first", "art")
    jobs.extend("a-first", batches=2, total=64, closed=True)
    jobs.report("a-first", 0, Outcome({"oil": 30}, 2))
    jobs.create("b-delete", "art", kind="delete")
    jobs.report("b-delete", 0, Outcome(affected=3))
    jobs.create("c-maps", "maps")
    jobs.extend("c-maps", batches=1, total=2, closed=True)
    rejected = (Rejection(HOSTILE, "truncated", "it is cut short"), Rejection("b.jpg", "empty", "it is empty"))
    jobs.report("c-maps", 0, Outcome({}, 0, rejected, damaged=("half.jpg",)))
    return jobs


def test_the_api_lists_jobs_by_what_they_are(web: FlaskClient) -> None:
    def ids(query: str = "") -> list[str]:
        answer = web.get(f"/api/v1/jobs{query}")
        assert answer.status_code == 200
        assert answer.json is not None
        return [job["id"] for job in answer.json["jobs"]]

    assert ids() == ["c-maps", "b-delete", "a-first"]
    assert ids("?collection=art&state=running") == ["a-first"]
    assert ids("?kind=delete") == ["b-delete"]
    assert ids("?limit=1&offset=1") == ["b-delete"]
    first, *_ = web.get("/api/v1/jobs?state=running").json["jobs"]  # type: ignore[index]
    assert {key: first[key] for key in ("finished", "total", "added", "rejected", "reason", "cancellable")} == {
        "finished": 32,
        "total": 64,
        "added": 30,
        "rejected": 0,
        "reason": "",
        "cancellable": True,
    }
    assert web.get("/api/v1/jobs?state=strange").status_code == 422
    assert web.get("/api/v1/jobs?limit=1000").status_code == 422


def test_whoever_follows_a_job_is_told_what_a_list_tells(web: FlaskClient) -> None:
    answer = web.get("/api/v1/jobs/c-maps/summary")
    assert answer.status_code == 200
    assert answer.json == web.get("/api/v1/jobs?collection=maps").json["jobs"][0]  # type: ignore[index]
    assert (answer.json["rejected"], answer.json["reason"]) == (2, "it is cut short")
    whole = web.get("/api/v1/jobs/c-maps").json
    assert whole is not None
    assert [item["name"] for item in whole["rejected"]] == [HOSTILE, "b.jpg"]
    assert web.get("/api/v1/jobs/nothing/summary").status_code == 404


def test_an_ingest_is_cancelled_and_a_deletion_is_not(web: FlaskClient, jobs: Jobs) -> None:
    answer = web.delete("/api/v1/jobs/a-first")
    assert answer.status_code == 202
    assert jobs.cancelled("a-first")
    assert web.delete("/api/v1/jobs/b-delete").status_code == 409
    assert web.delete("/api/v1/jobs/nothing").status_code == 404


def test_the_page_lists_jobs_with_a_button_for_those_that_can_be_cancelled(web: FlaskClient, jobs: Jobs) -> None:
    page = web.get("/jobs").get_data(as_text=True)
    assert re.findall(r'data-id="([^"]*)"', page) == ["c-maps", "b-delete", "a-first"]
    assert re.findall(r'action="/jobs/([^/"]*)/cancel"', page) == ["a-first"]
    assert '<progress max="64" value="32"' in page
    assert "it is cut short" in page
    assert 'href="/jobs" aria-current="page"' in page
    assert re.findall(r'data-id="([^"]*)"', web.get("/jobs?collection=&kind=delete&state=").get_data(as_text=True)) == [
        "b-delete"
    ]
    assert "no such jobs" in web.get("/jobs?collection=other").get_data(as_text=True)
    answer = web.post("/jobs/a-first/cancel")
    assert (answer.status_code, answer.location) == (303, "/jobs/a-first")
    assert jobs.cancelled("a-first")
    assert "/cancel" not in web.get("/jobs").get_data(as_text=True)


def test_the_page_of_a_job_names_what_was_left_out(web: FlaskClient) -> None:
    page = web.get("/jobs/c-maps").get_data(as_text=True)
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.count('<tr><th scope="row">') == 2
    assert "<li>half.jpg</li>" in page
    assert web.get("/jobs/nothing").status_code == 404


def test_another_site_cannot_cancel_a_job(web: FlaskClient, jobs: Jobs) -> None:
    assert web.post("/jobs/a-first/cancel", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert not jobs.cancelled("a-first")


def test_the_command_lists_shows_and_cancels(artseek: Any, jobs: Jobs, web: FlaskClient) -> None:
    assert [line for line in ("c-maps", "b-delete", "a-first") if line in artseek()] == [
        "c-maps",
        "b-delete",
        "a-first",
    ]
    answer = json.loads(artseek("--json"))
    assert answer["jobs"] == web.get("/api/v1/jobs").json["jobs"]  # type: ignore[index]
    assert [job["id"] for job in json.loads(artseek("list", "--kind", "delete", "--json"))["jobs"]] == ["b-delete"]
    assert json.loads(artseek("show", "c-maps", "--json")) == web.get("/api/v1/jobs/c-maps").json
    assert "it is cut short" in artseek("show", "c-maps")
    assert "ends at its next step" in artseek("cancel", "a-first")
    assert jobs.cancelled("a-first")
    assert "cannot be cancelled" in artseek("cancel", "b-delete", status=1)
    assert "no job" in artseek("show", "nothing", status=1)


def test_every_kind_of_job_has_a_title() -> None:
    assert KIND_TITLES.keys() == set(get_args(Kind))
