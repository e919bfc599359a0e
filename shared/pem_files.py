"""Files with certificates and keys, which settings name."""

from pathlib import Path

from shared.errors import Invalid


def read_pem(setting: str, path: Path) -> bytes:
    """Return what a file holds that a setting names.

    Raises:
        Invalid: It cannot be read, or is no PEM file; the message names the setting.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{setting}: {str(path)!r} cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in text:
        raise Invalid(f"{setting}: {str(path)!r} is no PEM file")
    return text
