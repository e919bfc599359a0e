"""Quotas of the web service: whoever sends or has under way too much is told so, and the others are not."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from services.web import quotas, uploads
from services.web.app import create_app
from services.web.clients import EXTENSION
from shared.errors import Unavailable
from shared.state import State, connect
from shared.state.in_flight import InFlight, Load
from shared.state.job_ids import new_job_id
from shared.state.outcomes import Outcome
from shared.storage import layout
from tests.support.servers import Servers
from tests.support.web_client import picture

UPLOAD = "/api/v1/collections/quotas/images"


def client_of(servers: Servers, **values: Any) -> FlaskClient:
    """Return a client of an application that others reach, with these settings; no worker does its jobs."""
    return create_app(servers.settings.model_copy(update={"insecure": True, **values})).test_client()


def ask(client: FlaskClient, path: str = "/api/v1/jobs", address: str = "203.0.113.7") -> TestResponse:
    return client.get(path, environ_base={"REMOTE_ADDR": address})


def upload(client: FlaskClient, *seeds: int, address: str = "203.0.113.7") -> TestResponse:
    files = [(io.BytesIO(picture(seed)), f"{seed}.jpg") for seed in seeds]
    return client.post(UPLOAD, data={"images": files}, environ_base={"REMOTE_ADDR": address})


def is_refused(answer: TestResponse, words: str) -> bool:
    """Return whether an answer says to come again later, and why."""
    return (
        answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0 and words in answer.get_data(as_text=True)
    )


def test_an_address_that_asks_too_often_has_to_wait_and_others_do_not(servers: Servers) -> None:
    client = client_of(servers, rate_requests=4)
    assert [ask(client).status_code for _ in range(2)] == [200, 200]
    assert is_refused(ask(client), "4 requests a minute")
    assert ask(client, "/healthz").status_code == 200
    assert ask(client, address="203.0.113.8").status_code == 200
    # All addresses of a /64 network are those of one client.
    assert [ask(client, address=f"2001:db8::{number}").status_code for number in (1, 2, 3)] == [200, 200, 429]
    assert ask(client, address="2001:db8:0:1::1").status_code == 200


def test_pages_say_so_in_the_language_of_their_reader_and_the_api_in_english(servers: Servers) -> None:
    client = client_of(servers, rate_requests=2, jobs_in_flight=1)
    for path, words in (
        ("/jobs", "mehr als 2 Anforderungen in der Minute"),
        ("/api/v1/jobs", "than 2 requests a minute"),
    ):
        address = {"REMOTE_ADDR": f"203.0.113.{len(path)}"}
        answers = [client.get(path, headers={"Accept-Language": "de"}, environ_base=address) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert words in answers[1].get_data(as_text=True)


def test_changes_have_a_rate_of_their_own(servers: Servers) -> None:
    client = client_of(servers, rate_changes=2)
    assert upload(client, 1).status_code == 202
    assert is_refused(upload(client, 2), "2 changes a minute")
    assert ask(client).status_code == 200


def test_tiles_that_are_cut_have_a_rate_too(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(servers, rate_changes=4)
    extensions = client.application.extensions
    clients = extensions[EXTENSION]
    data = picture(1)
    entry = SimpleNamespace(digest=layout.digest_of(data), width=160, height=120, size=len(data))
    clients.store.put(layout.original_key(entry.digest), data)
    monkeypatch.setitem(extensions, EXTENSION, replace(clients, query=SimpleNamespace(image=lambda *_: entry)))

    def tile(place: str, **headers: str) -> TestResponse:
        path = f"/api/v1/collections/quotas/images/1/tiles/{place}"
        return client.get(path, headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.7"})

    first = tile("8/0_0")
    assert (first.status_code, first.mimetype) == (200, "image/jpeg")
    # Neither one that there is not, nor one that the browser has, is cut.
    assert tile("8/5_5").status_code == 404
    assert tile("8/0_0", **{"If-None-Match": first.headers["ETag"]}).status_code == 304
    assert tile("7/0_0").status_code == 200
    assert is_refused(tile("6/0_0"), "4 tiles a minute")
    assert tile("8/0_0", **{"If-None-Match": first.headers["ETag"]}).status_code == 304
    assert upload(client, 3).status_code == 202  # which is counted apart


def test_nobody_has_more_under_way_than_they_may(servers: Servers) -> None:
    client = client_of(servers, images_in_flight=3, jobs_in_flight=3)
    first = upload(client, 1, 2)
    assert first.status_code == 202
    assert is_refused(upload(client, 3, 4), "2 images under way")
    assert upload(client, 3).status_code == 202
    assert upload(client, 5, 6, 7, 8, address="203.0.113.8").status_code == 202  # alone, an upload may be larger
    assert first.json is not None
    state = State.of(connect(servers.settings.index_url.get_secret_value()))
    state.jobs.report(first.json["job"], 0, Outcome(duplicates=2))
    assert upload(client, 4).status_code == 202


def test_requests_at_the_same_time_get_no_more_than_there_is(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    client, other = (client_of(servers, images_in_flight=3, jobs_in_flight=1) for _ in range(2))
    meanwhile: list[TestResponse] = []

    def while_another_comes(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        meanwhile.append(upload(other, 3, 4))
        return uploads.hand_in(*arguments, **options)

    monkeypatch.setattr("services.web.api.images.hand_in", while_another_comes)
    assert upload(client, 1, 2).status_code == 202
    assert is_refused(meanwhile[0], "1 jobs under way")


def test_what_fails_gives_its_room_back(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(servers, images_in_flight=2, jobs_in_flight=1)

    def fails(*_: object, **__: object) -> None:
        raise Unavailable("a server is away")

    with monkeypatch.context() as patch:
        patch.setattr("services.web.api.images.hand_in", fails)
        assert upload(client, 1).status_code == 503
    assert upload(client, 1).status_code == 202
    assert upload(client, 2).status_code == 429


def test_every_way_to_hand_in_a_job_counts(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(servers, jobs_in_flight=1)
    extensions = client.application.extensions
    query = SimpleNamespace(image=lambda *_: None, collection=lambda *_: None)
    monkeypatch.setitem(extensions, EXTENSION, replace(extensions[EXTENSION], query=query))
    extensions[EXTENSION].catalog.create("quotas", model="small", version=1, dim=2)
    assert upload(client, 1).status_code == 202
    api = "/api/v1/collections/quotas"
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("DELETE", f"{api}/images/1", {}),
        ("POST", f"{api}/delete", {"json": {"ids": [1]}}),
        ("POST", f"{api}/trash/1/restore", {}),
        ("POST", f"{api}/map", {}),
        ("POST", f"{api}/duplicates", {}),
        ("POST", f"{api}/duplicates/merge", {"json": {"keep": 1, "others": [2], "trash": True}}),
        ("POST", "/api/v1/evaluations", {"json": {"collection": "quotas", "sample": 1}}),
        ("PUT", f"{api}/regions", {"json": {"regions": True}}),
        ("PATCH", api, {"json": {"name": "other"}}),
        ("DELETE", api, {}),
    ]
    for method, path, options in ways:
        answer = client.open(path, method=method, environ_base={"REMOTE_ADDR": "203.0.113.7"}, **options)
        assert is_refused(answer, "1 jobs under way"), (method, path, answer.get_data(as_text=True))


MOST = Load(jobs=3, images=10, evaluations=1)


def test_room_is_taken_in_one_step(servers: Servers) -> None:
    redis = connect(servers.settings.index_url.get_secret_value())
    in_flight = InFlight(redis, State.of(redis).jobs)
    with ThreadPoolExecutor(8) as pool:
        rooms = list(pool.map(lambda _: in_flight.take("a", "map", 0, MOST)[0], range(24)))
    taken = [room for room in rooms if room is not None]
    assert len(set(taken)) == MOST.jobs
    assert in_flight.take("b", "ingest", 11, MOST)[0] is not None  # alone, an upload may be larger
    assert in_flight.take("b", "ingest", 1, MOST) == (None, Load(jobs=1, images=11))
    in_flight.give_back("a", taken[0])
    assert in_flight.take("a", "evaluate", 0, MOST)[0] is not None


def test_room_that_nobody_used_comes_back(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = connect(servers.settings.index_url.get_secret_value())
    in_flight = InFlight(redis, State.of(redis).jobs)
    assert in_flight.take("a", "evaluate", 0, MOST)[0] is not None
    assert in_flight.take("a", "duplicates", 0, MOST) == (None, Load(jobs=1, evaluations=1))
    monkeypatch.setattr("shared.state.in_flight.ROOM_S", 0)  # whoever took it has died
    assert in_flight.take("a", "duplicates", 0, MOST) == (ANY, Load())


def test_jobs_that_are_done_do_not_count(servers: Servers) -> None:
    redis = connect(servers.settings.index_url.get_secret_value())
    state = State.of(redis)
    in_flight = InFlight(redis, state.jobs)
    jobs = [new_job_id() for _ in range(3)]
    most = Load(jobs=9, images=9, evaluations=9)

    def load(requester: str) -> Load:
        room, found = in_flight.take(requester, "map", 0, most)
        assert room is not None
        in_flight.give_back(requester, room)
        return found

    for job, kind in zip(jobs, ("evaluate", "delete", "evaluate"), strict=True):
        room, _ = in_flight.take("a", kind, 0, most)  # type: ignore[arg-type]
        assert room is not None
        state.jobs.create(job, "quotas", kind=kind)  # type: ignore[arg-type]
        in_flight.note("a", room, job, kind)  # type: ignore[arg-type]
    assert load("a") == Load(jobs=3, evaluations=2)
    assert load("b") == Load()
    state.jobs.report(jobs[0], 0, Outcome())
    state.jobs.forget(jobs[1])
    assert load("a") == Load(jobs=1, evaluations=1)


def test_ones_own_machine_is_not_counted(servers: Servers) -> None:
    client = client_of(servers, insecure=False, rate_requests=1, rate_changes=1, jobs_in_flight=1, images_in_flight=1)
    assert [upload(client, seed, address="127.0.0.1").status_code for seed in (1, 2, 3)] == [202, 202, 202]


def test_uploads_leave_the_disk_some_room(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(servers, least_free_bytes=2**62)
    answer = upload(client, 1)
    assert (answer.status_code, "disk" in answer.get_data(as_text=True)) == (503, True)
    monkeypatch.setattr(quotas, "least_free", lambda *_: 0)
    assert upload(client, 1).status_code == 202
