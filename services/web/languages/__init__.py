"""The languages of the pages: catalogues, the choice among them, and the functions that look texts up."""

from services.web.languages.texts import (
    Told,
    gettext,
    is_translated,
    marked,
    ngettext,
    pgettext,
    said,
    saying,
    told,
    translated,
)

__all__ = ["Told", "gettext", "is_translated", "marked", "ngettext", "pgettext", "said", "saying", "told", "translated"]
