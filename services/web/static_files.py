"""The scripts, styles and pictures of the pages, at addresses that name their content, so that browsers keep them.

Each address has the digest of all files. What was loaded is not asked for again, and after an upgrade all addresses are
others. Modules name each other by relative paths, so they are those of one version.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, send_from_directory

ENDPOINT: Final = "static"
FOLDER: Final = Path(__file__).resolve().parent / "static"
_KEPT_S: Final = 365 * 24 * 3600
_DIGITS: Final = 16
_VERSION: Final = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


def attach(app: Flask, folder: Path = FOLDER) -> None:
    """Serve the files of a folder; `url_for` gives their addresses."""
    version = _version_of(folder)

    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == ENDPOINT:
            values["filename"] = f"{version}/{values['filename']}"

    def static(filename: str) -> Response:
        first, _, rest = filename.partition("/")
        if first == version:
            response = send_from_directory(folder, rest, max_age=_KEPT_S)
            response.cache_control.immutable = True
            return response
        # Without a version, or of another one: a page may have been loaded before an upgrade.
        return send_from_directory(folder, rest if _VERSION.fullmatch(first) else filename)

    app.url_defaults(add_version)
    app.add_url_rule("/static/<path:filename>", endpoint=ENDPOINT, view_func=static)


def _version_of(folder: Path) -> str:
    """Return the first digits of the SHA-256 of all files and their names."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:_DIGITS]
