"""Secrets from files: what the setting ``ARTSEEK_X`` may say itself, the file says that ``ARTSEEK_X_FILE`` names.

So a secret need not be in an environment, which whoever may look at a container can read.
"""

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from shared.errors import Invalid

_LONGEST = 64 * 2**10  # bytes


class SecretFiles(PydanticBaseSettingsSource):
    """What one source says (the environment, or a file of settings), with the secrets of the files that it names.

    A name that is set to nothing counts as not set.
    """

    def __init__(self, settings_cls: type[BaseSettings], source: EnvSettingsSource) -> None:
        super().__init__(settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what the source itself says of a field."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """Return the values of the source.

        Raises:
            Invalid: A secret is given twice, or its file cannot be read; the message names the setting.
        """
        values = self._source()
        prefix = self.config.get("env_prefix", "")
        for field, info in self.settings_cls.model_fields.items():
            name = f"{prefix}{field}_file"
            path = self._source.env_vars.get(name.lower()) if info.annotation is SecretStr else None
            if not path:
                continue
            if values.get(field):
                raise Invalid(f"{name.upper()} and {name.upper().removesuffix('_FILE')} are both set: expected one")
            values[field] = read_secret(Path(path), setting=name.upper())
        return values


def read_secret(path: Path, *, setting: str) -> str:
    """Return the secret in a file, without the end of its line.

    Raises:
        Invalid: The file cannot be read, or holds no secret; the message has nothing of its content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise Invalid(f"{setting}: {str(path)!r} cannot be read: {error.strerror}") from None
    if len(content) > _LONGEST:
        raise Invalid(f"{setting}: {str(path)!r} is larger than {_LONGEST // 1024} KiB, which no secret is")
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Invalid(f"{setting}: {str(path)!r} is not text in UTF-8") from None
    if not secret.strip():
        raise Invalid(f"{setting}: {str(path)!r} is empty: expected a secret")
    return secret
