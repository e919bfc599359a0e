"""What templates look texts up by, and what tells caches that a page depends on who asks."""

from flask import Flask, Response

from services.web.languages import texts
from services.web.languages.catalogues import offered
from services.web.languages.choice import language, others, script_texts


def attach(app: Flask) -> None:
    """Let all templates look texts up, and name in all pages what they depend on."""
    offered()  # which reads the catalogues before somebody waits for a page
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        _gettext, _ngettext, newstyle=True, pgettext=_pgettext
    )
    app.add_template_filter(texts.translated)
    app.add_template_filter(lambda text: language().number(text), "localized")
    app.add_template_test(texts.is_translated, "translated")
    app.add_template_global(language)
    app.add_template_global(others, "other_languages")
    app.add_template_global(script_texts)
    app.after_request(_vary)


# The extension itself puts values into what these return.


def _gettext(text: str) -> str:
    return language().translations.gettext(text)


def _ngettext(one: str, many: str, number: int) -> str:
    return language().translations.ngettext(one, many, number)


def _pgettext(context: str, text: str) -> str:
    return language().translations.pgettext(context, text)


def _vary(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.vary.update(["Accept-Language", "Cookie"])
    return response
