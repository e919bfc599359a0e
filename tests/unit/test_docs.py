"""The documentation names every setting and every command, and no others; its links and paths lead somewhere."""

import re
from pathlib import Path

import pytest

from cli.main import COMMANDS
from shared.settings import Settings, environment_name
from tests.support.paths import ROOT

_README = ROOT / "README.md"
_CONFIGURATION = ROOT / "docs" / "configuration.md"
_TOP = ("CONTRIBUTING", "CHANGELOG", "SECURITY")
_PAGES = [_README, *(ROOT / f"{name}.md" for name in _TOP), *sorted((ROOT / "docs").glob("*.md"))]
_PROSE_COLUMNS = 100
_NAMED = re.compile(
    r"`((?:services|shared|cli|local|training|reproduction|benchmarks|tests|docs|deploy|requirements|scripts)/[\w./*-]*)`"
)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _links(page: Path) -> list[tuple[str, str]]:
    """Return path and anchor of each link of a page that stays in the repository; the path is empty for its own."""
    targets = re.findall(r"\]\(([^)\s]+)\)", _without_code(_text(page)))
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in targets if "://" not in target)]


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have on a forge."""
    headings = re.findall(r"^#+ (.+)$", _without_code(_text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_configuration_page_has_every_setting_with_its_default_and_meaning() -> None:
    found = re.findall(r"\| `(ARTSEEK_\w+)` \| (.*?) \| (.*?) \|", _text(_CONFIGURATION))
    rows = {name: (default, meaning) for name, default, meaning in found}
    assert rows.keys() == {environment_name(field) for field in Settings.model_fields}
    for field, info in Settings.model_fields.items():
        default = info.default.get_secret_value() if hasattr(info.default, "get_secret_value") else info.default
        shown, meaning = rows[environment_name(field)]
        assert meaning == info.description
        assert shown == ("" if default in {None, ""} else f"`{default}`")


def test_the_readme_shows_every_command_and_no_other() -> None:
    shown = set(re.findall(r"^artseek (\w+)", _text(_README), re.MULTILINE))
    assert shown == set(COMMANDS)


def test_the_readme_stays_short() -> None:
    assert len(_text(_README).splitlines()) < 120


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for path, anchor in _links(page):
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links {path}, which does not exist"
        if anchor:
            assert anchor in _anchors(target), f"{page.name} links #{anchor}, which {target.name} has no heading for"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = {_README}, [_README]
    while ahead:
        page = ahead.pop()
        pages = {(page.parent / path).resolve() for path, _ in _links(page) if path.endswith(".md")}
        ahead += pages - reached
        reached |= pages
    assert {page.resolve() for page in _PAGES} <= reached


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_page_wraps_its_prose(page: Path) -> None:
    lines = _without_code(_text(page)).splitlines()
    long = [line for line in lines if len(line) > _PROSE_COLUMNS and not line.startswith(("|", "!["))]
    assert long == []


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = _NAMED.findall(_without_code(_text(page)))
    missing = [path for path in named if "NAME" not in path and not any(ROOT.glob(path.rstrip("/")))]
    assert missing == []
