"""Settings: the environment wins over the data folder's file, which wins over the defaults."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from shared.settings import SETTINGS_FILE, Settings, environment_name, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that says nothing of Artseek, in an empty folder."""
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings.data == Path("data")
    assert settings.batch_size == Settings.model_fields["batch_size"].default
    assert all(field.description for field in Settings.model_fields.values())


def test_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / SETTINGS_FILE).write_text("# made\nARTSEEK_S3_BUCKET=of-the-file\nARTSEEK_MODEL=of-the-file\n")
    monkeypatch.setenv("ARTSEEK_DATA", str(folder))
    monkeypatch.setenv("ARTSEEK_MODEL", "of-the-environment")
    settings = load_settings()
    assert (settings.s3_bucket, settings.model, settings.s3_region) == (
        "of-the-file",
        "of-the-environment",
        Settings.model_fields["s3_region"].default,
    )
    assert settings.data == folder


def test_the_default_folder_is_read_where_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / SETTINGS_FILE).write_text("ARTSEEK_S3_BUCKET=of-the-file\n")
    assert load_settings().s3_bucket == "of-the-file"
    monkeypatch.setenv("ARTSEEK_DATA", "")
    assert load_settings().s3_bucket == "of-the-file"


def test_the_folder_is_the_one_that_was_read_whatever_the_file_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / SETTINGS_FILE).write_text("ARTSEEK_DATA=/elsewhere\n")
    monkeypatch.setenv("ARTSEEK_DATA", str(tmp_path))
    assert load_settings().data == tmp_path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", "0"),
        ("batch_size", "many"),
        ("visibility_timeout", "9"),
        ("model_version", "0"),
        ("log_level", "LOUD"),
        ("web_threads", "0"),
        ("exact_below", "-1"),
        ("public_url", "archive.example"),
        ("trusted_proxies", "proxy"),
        ("allowed_hosts", "archive.example:443"),
    ],
)
def test_a_value_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    monkeypatch.setenv(environment_name(field), value)
    with pytest.raises(ValidationError, match=field):
        load_settings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ("s3_access_key", "s3_secret_key", "index_url", "broker_url"):
        monkeypatch.setenv(environment_name(field), "redis://:tell-nobody@127.0.0.1/0")
    settings = load_settings()
    assert "tell-nobody" not in repr(settings)
    assert "tell-nobody" not in str(settings.model_dump())
    secret = settings.index_url
    assert isinstance(secret, SecretStr)
    assert "tell-nobody" in secret.get_secret_value()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().batch_size = 3
