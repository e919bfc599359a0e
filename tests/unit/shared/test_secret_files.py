"""Secrets from files: in place of the setting, never beside it, and never told."""

from pathlib import Path

import pytest

from shared.errors import Invalid
from shared.settings import SETTINGS_FILE, Settings, environment_name, load_settings

NAME = "ARTSEEK_S3_SECRET_KEY"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that says nothing of Artseek, in an empty folder."""
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)
        monkeypatch.delenv(f"{environment_name(field)}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_secret_is_read_from_the_file_that_its_setting_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tell nobody \r\n")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "key"))
    settings = load_settings()
    assert settings.s3_secret_key.get_secret_value() == "tell nobody "
    assert "nobody" not in repr(settings)


def test_every_secret_can_be_in_a_file_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("redis://:password@127.0.0.1/0")
    for field in Settings.model_fields:
        monkeypatch.setenv(f"{environment_name(field)}_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    read = {
        name for name, value in settings if getattr(value, "get_secret_value", str)() == "redis://:password@127.0.0.1/0"
    }
    assert {"index_url", "broker_url", "s3_access_key", "s3_secret_key", "backup_s3_secret_key"} <= read
    assert settings.s3_endpoint == Settings.model_fields["s3_endpoint"].default


def test_a_secret_that_is_given_twice_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tell nobody")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "key"))
    monkeypatch.setenv(NAME, "")  # as a compose file passes on what is not set
    assert load_settings().s3_secret_key.get_secret_value() == "tell nobody"
    monkeypatch.setenv(NAME, "another")
    with pytest.raises(Invalid, match=f"{NAME}_FILE and {NAME} are both set") as caught:
        load_settings()
    assert "tell nobody" not in str(caught.value)


def test_the_environment_wins_over_the_data_folders_file_whichever_of_the_two_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("of a file")
    (tmp_path / SETTINGS_FILE).write_text(f"{NAME}=of-the-folder\n")
    monkeypatch.setenv("ARTSEEK_DATA", str(tmp_path))
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "key"))
    assert load_settings().s3_secret_key.get_secret_value() == "of a file"
    monkeypatch.delenv(f"{NAME}_FILE")
    (tmp_path / SETTINGS_FILE).write_text(f"{NAME}_FILE={tmp_path / 'key'}\n")
    monkeypatch.setenv(NAME, "of the environment")
    assert load_settings().s3_secret_key.get_secret_value() == "of the environment"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * 70_000, "KiB"),
    ],
)
def test_a_file_without_a_secret_is_told_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "key"))
    with pytest.raises(Invalid, match=said) as caught:
        load_settings()
    assert f"{NAME}_FILE" in str(caught.value)


@pytest.mark.parametrize("given", [["grpc_key"], ["grpc_certificate"], ["grpc_certificate", "grpc_key"]])
def test_certificates_that_would_not_be_used_are_refused(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    for field in given:
        monkeypatch.setenv(environment_name(field), "/a.pem")
    with pytest.raises(ValueError, match="ARTSEEK_GRPC_CERTIFICATE"):
        load_settings()
