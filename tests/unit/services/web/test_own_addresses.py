"""Addresses in templates and scripts come from the server, which knows the path that the service lies below."""

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

_WEB = ROOT / "services" / "web"
_TEMPLATES = sorted((_WEB / "templates").glob("*.html"))
_SCRIPTS = sorted((_WEB / "static" / "js").glob("*.js"))
_STYLES = sorted((_WEB / "static").glob("*.css"))
_WRITTEN = {
    ".html": re.compile(r"""(?:href|src|srcset|action|formaction|data-[\w-]+)\s*=\s*["']/"""),
    ".js": re.compile(r"""(?:\b(?:fetch|open|assign|replace|URL)\(\s*|\breturn\s+|\b(?:href|src)\s*=\s*)["'`]/"""),
    ".css": re.compile(r"""url\(\s*["']?/"""),
}


@pytest.mark.parametrize("path", [*_TEMPLATES, *_SCRIPTS, *_STYLES], ids=lambda path: path.name)
def test_no_address_begins_at_the_root_of_the_host(path: Path) -> None:
    assert _WRITTEN[path.suffix].findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".html", '<a href="/jobs">'),
        (".html", "<form action='/search'>"),
        (".js", 'fetch("/results", options)'),
        (".js", "return `/?${parameters}`;"),
        (".css", "url(/static/icon.svg)"),
    ],
)
def test_such_an_address_would_be_found(suffix: str, text: str) -> None:
    assert _WRITTEN[suffix].search(text)
