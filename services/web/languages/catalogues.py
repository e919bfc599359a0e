"""Reads the catalogues of texts: a gettext ``.po`` file for each language but English, in which the texts are written.

A catalogue that lacks a text, or has one that a translator has to look at again, is not offered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from gettext import NullTranslations
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

FOLDER: Final = Path(__file__).resolve().parent
SCRIPTS: Final = "services/web/static/js/"
_PERIOD: Final = 100  # no language of CLDR tells whole numbers of more than two digits apart by more than the last two
_MARKS: Final = str.maketrans({",": "g", ".": "d"})


@dataclass(frozen=True)
class Language:
    """A language of the pages.

    Attributes:
        tag: As HTTP and HTML have it, such as ``de`` (BCP 47).
        name: What it calls itself.
        locale: How it writes numbers and dates.
        translations: Its texts.
        scripts: What scripts need: their texts, and which form of a text goes with which number.
    """

    tag: str
    name: str
    locale: Locale
    translations: NullTranslations
    scripts: Mapping[str, Any] | None = None

    def number(self, text: str) -> str:
        """Return a number as this language writes it, given as Python's formats have it."""
        symbols = self.locale.number_symbols["latn"]
        return text.translate(_MARKS).replace("g", symbols["group"]).replace("d", symbols["decimal"])


ENGLISH: Final = Language("en", "English", Locale.parse("en_001"), NullTranslations())


def read_catalogue(path: Path) -> Catalog:
    """Return the catalogue of a ``.po`` file; its name is the tag of the language."""
    with path.open("rb") as file:
        return read_po(file, locale=str(Locale.parse(path.stem, sep="-")))


def is_complete(catalogue: Catalog) -> bool:
    """Return whether every text of a catalogue is translated, and none is to be looked at again."""
    return all(is_translated(message) for message in catalogue if message.id)


def is_translated(message: Message) -> bool:
    """Return whether a text has all its forms in the other language."""
    forms = message.string if isinstance(message.string, (list, tuple)) else (message.string,)
    return not message.fuzzy and all(forms)


@cache
def offered() -> Mapping[str, Language]:
    """Return the languages that pages are offered in, by tag; English, which needs no catalogue, is the first."""
    found = {"en": ENGLISH}
    for path in sorted(FOLDER.glob("*.po")):
        catalogue = read_catalogue(path)
        if is_complete(catalogue):
            found[path.stem.lower()] = language_of(path.stem, catalogue)
    return MappingProxyType(found)


def language_of(tag: str, catalogue: Catalog) -> Language:
    """Return the language whose texts a catalogue has."""
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    translations = Translations(compiled)
    locale = Locale.parse(tag, sep="-")
    return Language(tag, locale.get_display_name() or tag, locale, translations, _for_scripts(tag, catalogue, compiled))


def _for_scripts(tag: str, catalogue: Catalog, compiled: BytesIO) -> Mapping[str, Any]:
    """Return what the scripts of a page need, as JSON has it.

    `forms` has the place of the right form for each number below 200; beyond, the last two digits decide.
    """
    compiled.seek(0)
    plural = Translations(compiled).plural
    texts = {}
    for message in catalogue:
        if message.id and any(file.startswith(SCRIPTS) for file, _ in message.locations):
            texts[message.id if isinstance(message.id, str) else message.id[0]] = message.string
    return {"language": tag, "forms": "".join(str(plural(number)) for number in range(2 * _PERIOD)), "texts": texts}
