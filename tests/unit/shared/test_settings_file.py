"""The settings file: what is written into it is read back exactly, whatever characters a path has."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.settings import SETTINGS_FILE, Settings, environment_name, load_settings
from shared.settings_file import setting_line

ODD = [
    "/srv/Museum, Berlin",
    "/srv/Photos #2",
    "/srv/a'b\"c",
    "/srv/${HOME} and $HOME and ${HOME:-x} and ${",
    "/srv/Bücher und Gemälde",
    "/srv/two\nlines\r\nand\rmore",
    "-dash",
    " spaces around ",
    "\ttab",
    "back\\slash\\",
    "\\n \\' \\\" ${:-\\}",
    "~/home",
    "export X=1",
    "",
]


def read_back(folder: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ARTSEEK_DATA", str(folder))
    monkeypatch.delenv("ARTSEEK_S3_BUCKET", raising=False)
    monkeypatch.delenv("ARTSEEK_S3_REGION", raising=False)
    lines = [setting_line("ARTSEEK_S3_BUCKET", value), setting_line("ARTSEEK_S3_REGION", "after 'it'")]
    (folder / SETTINGS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = load_settings()
    assert settings.s3_region == "after 'it'"
    return settings.s3_bucket


@pytest.mark.parametrize("value", ODD)
def test_an_odd_value_is_read_back_as_it_was(tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_back(tmp_path, value, monkeypatch) == value


@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert read_back(tmp_path_factory.getbasetemp(), value, monkeypatch) == value


def test_plain_values_stand_as_they_are() -> None:
    line = setting_line("ARTSEEK_INDEX_URL", "redis://:secret@127.0.0.1:6379/0")
    assert line == "ARTSEEK_INDEX_URL=redis://:secret@127.0.0.1:6379/0"


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(Invalid, match="ARTSEEK_MODELS"):
        setting_line("ARTSEEK_MODELS", "/srv/\udcff")


@pytest.mark.parametrize("folder", ["~nobody/data", "-dash", "Photos #2"])
def test_a_relative_folder_is_read_where_it_is(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    (Path(folder) / SETTINGS_FILE).write_text("ARTSEEK_S3_BUCKET=of-the-file\n")
    monkeypatch.setenv("ARTSEEK_DATA", folder)
    assert load_settings().s3_bucket == "of-the-file"
