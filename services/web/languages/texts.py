"""Looks texts up in the language of whoever asks: in the request that is answered, and in English outside of any.

Every text is written in English where it is used, with values as ``%(name)s``; ``%%`` is a percent sign. What programs
read, such as answers of the API and logs, is never looked up.
"""

from typing import Any

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
        text = super().__new__(cls, message % values)
        text.message, text.values = message, values  # type: ignore[attr-defined]
        return text


def told(message: str, **values: object) -> Told:
    """Return a text with values that is looked up where it is shown, by `translated`; it is English everywhere else."""
    return Told(message, values)


def translated(text: str) -> str:
    """Return what `told` or `marked` was given in the language of whoever asks; any other text as it is."""
    if isinstance(text, Told):
        return gettext(text.message, **text.values)  # type: ignore[attr-defined]
    return language().translations.gettext(text) if text else text


def is_translated(text: str) -> bool:
    """Return whether `translated` has a text in the language of whoever asks."""
    return language().tag == "en" or translated(text) != str(text)
