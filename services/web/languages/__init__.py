"""The languages of the pages: catalogues, the choice among them, and the functions that look texts up."""

from services.web.languages.texts import (
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

__all__ = ["gettext", "is_translated", "marked", "ngettext", "pgettext", "said", "saying", "told", "translated"]
