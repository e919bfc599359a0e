"""Which language a page is in: the one that was chosen, else the first that the browser asks for."""

import pytest
from babel.messages.catalog import Catalog

from services.web.languages import catalogues, choice, is_translated, told, translated
from services.web.languages.catalogues import ENGLISH, Language, language_of
from tests.support.gated_web import Door


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    """Return an application whose pages are offered in German and the Portuguese of Brazil too."""
    german = Catalog("de", fuzzy=False)
    german.add("Log in", "Anmelden")
    german.add("there is nothing at %(path)s", "Unter %(path)s gibt es nichts")
    found: dict[str, Language] = {
        "en": ENGLISH,
        "de": language_of("de", german),
        "pt-br": language_of("pt-BR", Catalog("pt_BR", fuzzy=False)),
    }
    for module in ("languages.choice", "pages.languages"):
        monkeypatch.setattr(f"services.web.{module}.offered", lambda: found)
    return Door()


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT, en;q=0.9", "de"),
        ("en-GB, de;q=0.8", "en"),
        ("fr, de;q=0.8, en;q=0.5", "de"),
        ("fr, it", "en"),
        ("de;q=0, fr", "en"),
        ("en;q=0.2, DE-de;q=0.4", "de"),
        ("pt-BR", "pt-BR"),
        ("pt", "en"),
        ("*", "en"),
    ],
)
def test_the_browser_says_what_it_wants(door: Door, asked: str, tag: str) -> None:
    answer = door.client.get("/log-in", headers={"Accept-Language": asked})
    assert f'<html lang="{tag}">' in answer.text
    assert answer.vary.as_set() >= {"accept-language", "cookie"}


def test_a_choice_wins_and_stays(door: Door) -> None:
    answer = door.client.post("/language", data={"language": "de", "next": "/log-in?next=/jobs"})
    assert (answer.status_code, answer.location) == (303, "/log-in?next=/jobs")
    assert '<html lang="de">' in door.client.get("/log-in", headers={"Accept-Language": "en"}).text
    door.client.post("/language", data={"language": "en"})
    assert '<html lang="en">' in door.client.get("/log-in", headers={"Accept-Language": "de"}).text


def test_a_choice_leads_to_the_address_that_scripts_made_of_the_page(door: Door) -> None:
    shown = {"Referer": "http://localhost/?id=7&k=24"}
    assert door.client.post("/language", data={"language": "de", "next": "/"}, headers=shown).location == "/?id=7&k=24"
    for other in ("http://elsewhere.example/?id=7", "http://localhost/jobs?id=7", "//[", ""):
        answer = door.client.post("/language", data={"language": "de", "next": "/"}, headers={"Referer": other})
        assert answer.location == "/"


@pytest.mark.parametrize("wanted", ["//elsewhere.example/", "https://elsewhere.example/", "/\\elsewhere.example"])
def test_a_choice_leads_to_no_other_site(door: Door, wanted: str) -> None:
    assert door.client.post("/language", data={"language": "de", "next": wanted}).location == "/"


def test_only_what_is_offered_can_be_chosen(door: Door) -> None:
    answer = door.client.post("/language", data={"language": "fr"})
    assert answer.status_code == 422
    assert "Set-Cookie" not in answer.headers
    door.client.set_cookie(choice.COOKIE, "fr")
    assert '<html lang="en">' in door.client.get("/log-in").text


def test_what_programs_read_stays_english(door: Door) -> None:
    door.client.set_cookie(choice.COOKIE, "de")
    answer = door.client.get("/api/v1/nothing", headers={"Accept-Language": "de"})
    assert answer.json is not None
    assert answer.json["detail"] == "there is nothing at '/api/v1/nothing'"
    assert "Unter &#39;/nothing&#39; gibt es nichts" in door.client.get("/nothing").text


def test_a_catalogue_is_offered_when_nothing_in_it_is_missing() -> None:
    catalogue = Catalog("de", fuzzy=False)
    catalogue.add("Log in", "Anmelden")
    assert catalogues.is_complete(catalogue)
    several = catalogue.add(("%(count)s image", "%(count)s images"), ("%(count)s Bild", ""))
    assert not catalogues.is_complete(catalogue)
    several.string = ("%(count)s Bild", "%(count)s Bilder")
    assert catalogues.is_complete(catalogue)
    several.flags.add("fuzzy")
    assert not catalogues.is_complete(catalogue)


def test_scripts_get_their_texts_and_the_form_for_each_number() -> None:
    catalogue = Catalog("pl", fuzzy=False)
    catalogue.add(("one", "many"), ("a", "b", "c"), [("services/web/static/js/tray.js", 0)])
    catalogue.add("page", "strona", [("services/web/templates/jobs.html", 0)])
    scripts = language_of("pl", catalogue).scripts
    assert scripts is not None
    assert scripts["texts"] == {"one": ("a", "b", "c")}
    assert [
        scripts["texts"]["one"][int(scripts["forms"][number])] for number in (0, 1, 2, 5, 12, 22, 101, 102)
    ] == list("cabccbcb")


def test_english_writes_numbers_as_before_and_german_as_germans_do() -> None:
    german = language_of("de", Catalog("de", fuzzy=False))
    assert ENGLISH.number("12,345.60 %") == "12,345.60 %"
    assert german.number("12,345.60 %") == "12.345,60 %"


def test_what_other_parts_of_the_program_say_is_known_again() -> None:
    app = Door().app
    message = "%(shown)s images are shown, at most %(most)s are edited at once: filter further"
    many = told(message, shown=12345, most=10000)
    with app.test_request_context("/", headers={"Accept-Language": "de"}):
        assert translated("there is no collection 'art'") == "es gibt keine Sammlung 'art'"
        said = "as many pixels and as full a record, and the largest file: 1,234,567 bytes"
        assert "1.234.567 Byte" in translated(said)
        assert translated("nothing of the kind") == "nothing of the kind"
        assert not is_translated("nothing of the kind")
        assert translated(many).startswith("12.345 Bilder")
    with app.test_request_context("/", headers={"Accept-Language": "en"}):
        assert translated("there is no collection 'art'") == "there is no collection 'art'"
        assert translated(many).startswith("12,345 images")
