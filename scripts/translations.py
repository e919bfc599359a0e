"""Brings the catalogues of the pages' texts up to date with templates, Python and scripts, and adds languages.

``python -m scripts.translations`` adds new texts to every catalogue, empty, takes away those that are gone, and lists
what is to be translated. ``python -m scripts.translations add fr`` begins a catalogue.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from services.web.languages.catalogues import FOLDER, is_translated, read_catalogue

_ROOT: Final = Path(__file__).resolve().parent.parent
_WEB: Final = _ROOT / "services" / "web"
_METHODS: Final = [
    ("languages/**", "ignore"),
    ("**.py", "python"),
    ("templates/*.html", "jinja2"),
    ("static/js/*.js", "javascript"),
]
_OPTIONS: Final = {
    "templates/*.html": {"newstyle_gettext": "true", "trimmed": "true", "silent": "false"},
    "static/js/*.js": {"parse_template_string": "true"},
}
_KEYWORDS: Final = {
    **dict.fromkeys(("_", "gettext", "marked", "saying", "told")),
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
}
_WIDTH: Final = 100


def extracted() -> Catalog:
    """Return a catalogue of all texts that are marked, each with the files that have it."""
    found = Catalog(project="Artseek", charset="utf-8")
    for file, _, message, comments, context in extract_from_dir(
        _WEB, _METHODS, _OPTIONS, _KEYWORDS, comment_tags=("Translators:",), strip_comment_tags=True
    ):
        place = (_WEB / file).relative_to(_ROOT).as_posix()
        found.add(message, None, [(place, 0)], auto_comments=comments, context=context)
    return found


def updated(catalogue: Catalog, template: Catalog) -> Catalog:
    """Return a catalogue with the texts of a template: what was translated stays so."""
    written = catalogue.creation_date
    catalogue.update(template, no_fuzzy_matching=True)
    catalogue.creation_date = written
    catalogue.obsolete.clear()
    return catalogue


def write(catalogue: Catalog, path: Path) -> None:
    """Write a catalogue; one of the same texts is the same file, on whatever day."""
    with path.open("wb") as file:
        write_po(file, catalogue, width=_WIDTH, sort_by_file=True, include_lineno=False, ignore_obsolete=True)


def main() -> None:
    """Bring catalogues up to date, or begin one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=["update", "add"], default="update")
    parser.add_argument("language", nargs="?", help="tag of the language to add, such as fr or pt-BR")
    options = parser.parse_args()
    template = extracted()
    if options.action == "add":
        if not options.language or (FOLDER / f"{options.language}.po").exists():
            parser.error("name a language that has no catalogue yet")
        locale = Locale.parse(options.language, sep="-")
        begun = Catalog(locale, project="Artseek", charset="utf-8", fuzzy=False, revision_date=datetime.now(UTC))
        write(updated(begun, template), FOLDER / f"{options.language}.po")
    for path in sorted(FOLDER.glob("*.po")):
        catalogue = updated(read_catalogue(path), template)
        write(catalogue, path)
        missing = [message for message in catalogue if message.id and not is_translated(message)]
        sys.stdout.write(f"{path.relative_to(_ROOT)}: {len(catalogue)} texts, {len(missing)} to be translated\n")


if __name__ == "__main__":
    main()
