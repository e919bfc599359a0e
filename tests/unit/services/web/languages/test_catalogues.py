"""The catalogues have every text of the pages, and no text of the pages is left out of them."""

import re
from pathlib import Path
from typing import get_args

import pytest
from babel.messages.catalog import Catalog, Message
from jinja2 import Environment, nodes

from scripts.translations import extracted
from services.web.languages.catalogues import FOLDER, is_complete, is_translated, offered, read_catalogue
from services.web.pages import vocabulary
from services.web.pages.jobs import KIND_TITLES
from shared.access import ROLES
from shared.access.accounts import VISIBILITY_TITLES
from shared.duplicates.pairs import WAYS
from shared.hashing.parameters import PARAMETERS
from shared.records.model import STANDARD
from shared.rpc.query import METRICS, MODES, STAGES
from shared.rpc.query.options import MODE_DESCRIPTIONS
from shared.state.jobs import Kind, State
from shared.verification.findings import MEANINGS
from tests.support.unmarked_texts import LOOKED_UP, unmarked_in_script, unmarked_in_template

_WEB = FOLDER.parent
_TEMPLATES = sorted((_WEB / "templates").glob("*.html"))
_SCRIPTS = sorted((_WEB / "static" / "js").glob("*.js"))
_CATALOGUES = sorted(FOLDER.glob("*.po"))
_TAG = re.compile(r"</?\w[^>]*>")
_VALUE = re.compile(r"%\((\w+)\)s")


@pytest.fixture(scope="module")
def texts() -> Catalog:
    """Return a catalogue of what is marked."""
    return extracted()


def _keys(catalogue: Catalog) -> set[object]:
    return {
        (message.id if isinstance(message.id, str) else tuple(message.id), message.context) for message in catalogue
    }


def _forms(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string or ())


def _originals(message: Message) -> list[str]:
    return [message.id] if isinstance(message.id, str) else list(message.id)


@pytest.mark.parametrize("path", _CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_has_every_text_and_no_other(path: Path, texts: Catalog) -> None:
    catalogue = read_catalogue(path)
    missing, surplus = _keys(texts) - _keys(catalogue), _keys(catalogue) - _keys(texts)
    assert not missing, "run `python -m scripts.translations`, and translate what it adds"
    assert not surplus, "run `python -m scripts.translations`"


def test_german_is_complete_and_offered() -> None:
    catalogue = read_catalogue(FOLDER / "de.po")
    assert not [message.id for message in catalogue if message.id and not is_translated(message)]
    assert is_complete(catalogue)
    assert list(offered()) == ["en", "de"]
    assert [language.name for language in offered().values()] == ["English", "Deutsch"]


@pytest.mark.parametrize("path", _CATALOGUES, ids=lambda path: path.stem)
def test_translations_have_the_values_and_tags_of_their_texts(path: Path) -> None:
    for message in read_catalogue(path):
        if not message.id or not is_translated(message):
            continue
        originals = _originals(message)
        wanted = set(_VALUE.findall(originals[-1]))
        for form in _forms(message):
            values = set(_VALUE.findall(form))
            assert values | {"count"} == wanted | {"count"}, message.id
            assert not (values - wanted), message.id
            assert sorted(_TAG.findall(form)) == sorted(_TAG.findall(originals[-1])), message.id
            assert form % dict.fromkeys(wanted, "x"), message.id


def test_scripts_get_exactly_their_texts() -> None:
    scripts = offered()["de"].scripts
    assert scripts is not None
    marked = set()
    for path in _SCRIPTS:
        marked |= set(re.findall(r"\bn?gettext\(\s*\"((?:[^\"\\]|\\.)*)\"", path.read_text("utf-8")))
    assert set(scripts["texts"]) == marked


@pytest.mark.parametrize("path", _TEMPLATES, ids=lambda path: path.name)
def test_templates_show_no_text_that_is_not_marked(path: Path) -> None:
    assert unmarked_in_template(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", _TEMPLATES, ids=lambda path: path.name)
def test_no_variable_of_a_template_takes_the_name_of_what_looks_texts_up(path: Path) -> None:
    tree = Environment(extensions=["jinja2.ext.i18n"], autoescape=True).parse(path.read_text("utf-8"))
    assert not {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"} & LOOKED_UP


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_scripts_show_no_text_that_is_not_marked(path: Path) -> None:
    assert unmarked_in_script(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<p>Nothing here</p>", ["Nothing here"]),
        ('<p>{{ _("Nothing here") }}</p>', []),
        ('<p>{% trans %}Look <a href="/">here</a>{% endtrans %}</p>', []),
        ('<p>{{ "Again" if found else "First" }}</p>', ["Again First"]),
        ('<p class="{{ "right" if found else "wrong" }}">{{ found }}</p>', []),
        ('<img alt="A picture" src="/a picture">', ["A picture"]),
        ('<a title="{{ name }}: {{ number }}">{{ name }}</a>', []),
        ('<p>{{ table("All the runs") }}</p>', ["All the runs"]),
        ("<pre><code>artseek up</code></pre>", []),
        ("<h1>Artseek</h1>", []),
    ],
)
def test_unmarked_texts_of_templates_are_found(template: str, found: list[str]) -> None:
    assert unmarked_in_template(template) == found


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('say("Nothing was found.");', ['"Nothing was found."']),
        ('say(gettext("Nothing was found."));', []),
        ("say(`${name} is not there`);", ["` is not there`"]),
        ('say(ngettext("%(count)s (one) image", "%(count)s images of it", f(1))); // as it is', []),
        ('find("main .work a[href], input[type=file]");', []),
    ],
)
def test_unmarked_texts_of_scripts_are_found(script: str, found: list[str]) -> None:
    assert unmarked_in_script(script) == found


def test_the_words_of_the_program_are_in_the_catalogues(texts: Catalog) -> None:
    words = [
        *(word for word in STAGES if word),
        *get_args(State),
        *ROLES,
        *WAYS,
        *(parameter.name for parameter in PARAMETERS),
        *MEANINGS.values(),
        *MODE_DESCRIPTIONS.values(),
        *VISIBILITY_TITLES,
        *VISIBILITY_TITLES.values(),
        *(mode.capitalize() for mode in MODES if mode != "lsh"),
        *METRICS,
        *(metric.capitalize() for metric in METRICS),
        *KIND_TITLES.values(),
        *vocabulary.FIELDS.values(),
    ]
    assert [word for word in words if word not in texts] == []
    assert set(vocabulary.FIELDS) >= set(STANDARD)
    assert set(KIND_TITLES) == set(get_args(Kind))
