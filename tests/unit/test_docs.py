"""The documentation names every setting and every command, and no others."""

import re

from cli.main import main
from shared.settings import Settings, environment_name
from tests.support.paths import ROOT

_README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_every_setting_with_its_default_and_meaning() -> None:
    found = re.findall(r"\| `(ARTSEEK_\w+)` \| (.*?) \| (.*?) \|", _README)
    rows = {name: (default, meaning) for name, default, meaning in found}
    assert rows.keys() == {environment_name(field) for field in Settings.model_fields}
    for field, info in Settings.model_fields.items():
        default = info.default.get_secret_value() if hasattr(info.default, "get_secret_value") else info.default
        shown, meaning = rows[environment_name(field)]
        assert meaning == info.description
        assert shown == ("" if default in {None, ""} else f"`{default}`")


def test_the_readme_shows_every_command_and_no_other() -> None:
    shown = set(re.findall(r"^artseek (\w+)", _README, re.MULTILINE))
    assert shown == set(main.commands)


def test_every_linked_file_exists() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links {target}, which does not exist"
