"""The data folder of a local system: locked while it runs, with its secrets, ports and settings."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from shared.errors import ArtseekError, Invalid

_PATTERNS = frozenset("*?[\\")
_SECRETS = "secrets.json"
_PORTS = "ports.json"


class AlreadyRunning(ArtseekError):
    """Another system runs on the same data folder."""


def usable_folder(path: Path) -> Path:
    """Return a folder's absolute path if every part of the system can work in it.

    TensorFlow looks for the files of a model by patterns, and takes a path for a part of the pattern.

    Raises:
        Invalid: It has a character that one of them misreads; the message says which.
    """
    resolved = path.resolve()
    text = str(resolved)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"the folder {text!r} has a name that is not UTF-8; rename it, or choose another") from None
    if found := sorted(_PATTERNS & set(text)):
        raise Invalid(
            f"the folder {text!r} has {' and '.join(found)} in its path, which TensorFlow takes for a pattern of file "
            "names; rename it, or choose another"
        )
    return resolved


class DataFolder:
    """The folder of one local system. Only one may run on it at a time."""

    def __init__(self, path: Path) -> None:
        """Make the folder, private to its owner, and lock it.

        Raises:
            AlreadyRunning: Another process has locked it.
            Invalid: A server cannot work in a folder of this name.
        """
        self.path = usable_folder(path)
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock: IO[str] = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"another artseek runs on {path}; stop it, or choose another folder") from None
        for name in ("logs", "models", "objects", "query", "valkey-index", "valkey-broker"):
            (self.path / name).mkdir(exist_ok=True)
        for log in (self.path / "logs").glob("weed.*"):  # of earlier versions; SeaweedFS writes into objects.log now
            log.unlink()

    def secrets(self, names: Iterable[str]) -> dict[str, str]:
        """Return the secrets of the local servers by these names, generated at the first start."""
        kept = self._read(_SECRETS)
        made = {name: str(kept.get(name) or secrets.token_hex(20)) for name in names}
        if made != kept:
            self.write(_SECRETS, json.dumps(made, indent=2))
        return made

    def ports(self) -> dict[str, int]:
        """Return the ports of the earlier start."""
        return {name: int(str(port)) for name, port in self._read(_PORTS).items()}

    def save_ports(self, ports: Mapping[str, int]) -> None:
        """Keep the ports for the next start."""
        self.write(_PORTS, json.dumps(ports, indent=2))

    def write(self, name: str, text: str) -> None:
        """Write a file whole and readable by its owner only."""
        part = self.path / f"{name}.part"
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(self.path / name)

    def _read(self, name: str) -> dict[str, object]:
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return dict(value)
