"""Looks texts up in the language of whoever asks: in the request that is answered, and in English outside of any.

Every text is written in English where it is used, with values as ``%(name)s``; ``%%`` is a percent sign. What programs
read, such as answers of the API and logs, is never looked up.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from services.web.languages.catalogues import ENGLISH, Language
from services.web.languages.choice import language


def gettext(message: str, **values: object) -> str:
    """Return a text."""
    return language().translations.gettext(message) % values


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """Return the form of a text that goes with a number."""
    return language().translations.ngettext(one, many, number) % values


def pgettext(context: str, message: str, **values: object) -> str:
    """Return a text that has another meaning elsewhere; `context` tells them apart."""
    return language().translations.pgettext(context, message) % values


def marked(message: str) -> str:
    """Return a text as it is: it is looked up where it is shown, by `translated`."""
    return message


class Told(str):
    """What somebody is told: English, as programs read it; a page shows it in another language, by `translated`."""

    __slots__ = ("message", "values")

    def __new__(cls, message: str, values: dict[str, Any]) -> "Told":
        """Return a text with its values."""
        text = super().__new__(cls, message % _written(values, ENGLISH))
        text.message, text.values = message, values  # type: ignore[attr-defined]
        return text


def _written(values: Mapping[str, object], language: Language) -> dict[str, object]:
    """Return values as a language writes them: whole numbers with its separators, and texts that were `told`."""
    return {name: _written_value(value, language) for name, value in values.items()}


def _written_value(value: object, language: Language) -> object:
    if isinstance(value, int):
        return language.number(f"{value:,}")
    return translated(value) if isinstance(value, Told) and language is not ENGLISH else value


def told(message: str, **values: object) -> Told:
    """Return a text that is looked up where it is shown, by `translated`; it is English everywhere else.

    Whole numbers among its values get thousands separators; give what is no number, such as an id, as a text. A value
    that is a word of the program is given as `told`, too.
    """
    return Told(message, values)


_VALUE: Final = re.compile(r"%\((\w+)\)s")
_NUMBER: Final = re.compile(r"\d{1,3}(?:,\d{3})*(?:\.\d+)?")
_sayings: list[tuple[re.Pattern[str], str]] = []


def saying(message: str) -> str:
    """Note a text with values that other parts of the program say in English: `translated` knows it again."""
    parts = _VALUE.split(message)
    pattern = "".join(re.escape(part) if place % 2 == 0 else f"(?P<{part}>.+)" for place, part in enumerate(parts))
    _sayings.append((re.compile(pattern, re.DOTALL), message))
    return message


def translated(text: str) -> str:
    """Return what was `told`, `marked` or a `saying` in the language of whoever asks; any other text as it is."""
    if isinstance(text, Told):
        return gettext(text.message, **_written(text.values, language()))  # type: ignore[attr-defined]
    if not text or language() is ENGLISH:
        return text
    found = language().translations.gettext(text)
    return found if found != text else _said_again(text)


def _said_again(text: str) -> str:
    for pattern, message in _sayings:
        if match := pattern.fullmatch(text):
            values = match.groupdict()
            return gettext(
                message,
                **{
                    name: language().number(value) if _NUMBER.fullmatch(value) else value
                    for name, value in values.items()
                },
            )
    return text


def said(error: Exception) -> str:
    """Return what an error says, as it was `told`."""
    return error.args[0] if error.args and isinstance(error.args[0], Told) else str(error)


def is_translated(text: str) -> bool:
    """Return whether `translated` has a text in the language of whoever asks."""
    return not text or language() is ENGLISH or translated(text) != str(text)
