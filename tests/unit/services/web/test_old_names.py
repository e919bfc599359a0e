"""Links with the name that a collection had before, and searches in collections that somebody may not see."""

import re
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest

from services.web.clients import EXTENSION
from shared.access import CollectionAccess, Grant
from tests.support.gated_web import Door

SEARCH = "id=3&like=4&like=5&label=M%C3%BCnch%26en"
KEYWORDS = "_method=x&_external=1&_scheme=ftp&_anchor=a&endpoint=y&name=z&values=v"  # as `url_for` calls its own


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    made = Door({"open": CollectionAccess("public", "private")})
    now = {"before": "open", "hidden-before": "art"}
    catalog = SimpleNamespace(current_name=lambda name: now.get(name, name))
    monkeypatch.setattr(made.app.extensions[EXTENSION], "catalog", catalog)
    monkeypatch.setattr(made.gate, "log_in_page", lambda: "/log-in")
    return made


def parts(address: str) -> tuple[str, list[tuple[str, str]]]:
    found = urlsplit(address)
    assert not found.netloc
    return found.path, parse_qsl(found.query)


@pytest.mark.parametrize("grants", [None, ()], ids=["anybody", "stranger"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"/?collection=before&{SEARCH}", f"/?collection=open&{SEARCH}"),
        (f"/?{SEARCH}&collection=before&{KEYWORDS}", f"/?{SEARCH}&collection=open&{KEYWORDS}"),
        (f"/results?collection=before&{SEARCH}", f"/results?collection=open&{SEARCH}"),
        (f"/collections/before?{KEYWORDS}", f"/collections/open?{KEYWORDS}"),
        ("/collections/before/map", "/collections/open/map"),
        ("/collections/before?collection=before", "/collections/open?collection=before"),
    ],
)
def test_an_old_name_leads_to_the_new_one(door: Door, grants: tuple[Grant, ...] | None, old: str, new: str) -> None:
    answer = door.client.get(old, headers=None if grants is None else door.key(*grants))
    assert answer.status_code == 302
    assert parts(answer.headers["Location"]) == parts(new)


@pytest.mark.parametrize("page", ["/?collection={}", "/collections/{}?sort=date"])
def test_so_it_does_for_who_may_look_at_whatever_has_that_name(door: Door, page: str) -> None:
    answer = door.client.get(page.format("before"), headers=door.key(Grant("viewer")))
    assert (answer.status_code, answer.headers["Location"]) == (302, page.format("open"))


def test_so_it_does_for_an_evaluation(door: Door) -> None:
    answer = door.client.get("/evaluations/before/e1?run=r", headers=door.key(Grant("viewer", "open")))
    assert (answer.status_code, answer.headers["Location"]) == (302, "/evaluations/open/e1?run=r")


def test_programs_are_told_the_new_name(door: Door) -> None:
    answer = door.client.get("/api/v1/collections/before")
    assert (answer.status_code, "'open'" in answer.get_data(as_text=True)) == (404, True)


@pytest.mark.parametrize("page", ["/", "/results"])
def test_a_search_where_one_may_not_look_is_answered_like_one_where_nothing_is(door: Door, page: str) -> None:
    stranger = door.key()
    for headers, status in ((None, 401 if page == "/results" else 303), (stranger, 404)):
        answers = {
            (answer.status_code, answer.headers.get("Location"), re.sub(rf"\b{name}\b", "NAME", answer.text))
            for name in ("art", "nil", "hidden-before")
            for answer in [door.client.get(f"{page}?collection={name}&{SEARCH}", headers=headers)]
        }
        assert len(answers) == 1
        assert answers.pop()[0] == status
    assert door.client.get("/?collection=open").status_code == 200
