"""What those are told who may not do what they ask for: on pages in their language, by the API in English."""

from typing import Any

import pytest

from services.web import quotas
from services.web.languages import is_translated
from services.web.languages.choice import COOKIE
from shared.access import CollectionAccess, Grant
from shared.state.in_flight import Load
from tests.support.gated_web import Door

VIEWER, GUEST = (Grant("viewer", "art"),), ()


@pytest.fixture
def door() -> Door:
    return Door({"open": CollectionAccess("public", "private")})


@pytest.mark.parametrize(
    ("path", "grants", "german", "english"),
    [
        (
            "/collections/art/trash",
            VIEWER,
            "Sammlung 'art' nicht ändern: Dafür braucht es die Rolle Kurator;",
            "'curator'",
        ),
        (
            "/collections/art/access",
            VIEWER,
            "'art' nicht verwalten: Dafür braucht es die Rolle Administrator;",
            "'admin'",
        ),
        ("/collections/open/duplicates", GUEST, "Bewertungen der Sammlung 'open' nicht sehen", "jobs and evaluations"),
        ("/access", VIEWER, "die Rolle Administrator in allen Sammlungen", "the role 'admin' in all collections"),
        (
            "/evaluations/compare?a=x&b=y",
            GUEST,
            "die Rolle Betrachter in irgendeiner Sammlung",
            "the role 'viewer' in some",
        ),
    ],
)
def test_who_may_not_is_told_in_their_language(
    door: Door, path: str, grants: tuple[Grant, ...], german: str, english: str
) -> None:
    headers = door.key(*grants)
    answer = door.client.get(path, headers=headers | {"Accept-Language": "de"})
    assert answer.status_code == 403
    assert german in answer.text.replace("&#39;", "'")
    assert english in door.client.get(path, headers=headers).text.replace("&#39;", "'")


def test_the_api_says_it_in_english(door: Door) -> None:
    headers = door.key(*VIEWER) | {"Accept-Language": "de"}
    answer = door.client.get("/api/v1/collections/art/trash", headers=headers)
    assert answer.json is not None
    detail = "you may not change the collection 'art': it takes the role 'curator'; an administrator can give it"
    assert answer.json["detail"] == detail


def test_quotas_say_it_in_the_language_of_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(web_listen="0.0.0.0:8080")  # elsewhere nothing is counted
    said: list[Any] = []

    class Refused(Exception):
        pass

    def refuse(detail: str, *_: object) -> None:
        said.append(detail)
        raise Refused

    monkeypatch.setattr(quotas, "_refuse", refuse)
    with door.app.test_request_context(headers={"Cookie": f"{COOKIE}=de"}):
        found = door.app.extensions["artseek-quotas"]
        rates = [found.requests, found.changes, found.fetches, found.tiles]
        monkeypatch.setattr(found.rates, "take", lambda *_: 1.0)
        for rate in rates:
            with pytest.raises(Refused):
                quotas._take(rate)
        for load, images in ((Load(jobs=1000), 0), (Load(evaluations=1000), 0), (Load(images=10**9), 1)):
            monkeypatch.setattr(found.in_flight, "take", lambda *_, load=load: (None, load))
            with pytest.raises(Refused), quotas.room_for("evaluate", images=images):
                pass
        assert len(said) == 7
        assert all(map(is_translated, said))
