"""The data folder of a local system: locked while it runs, with its secrets, ports and settings."""

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from shared.errors import ArtseekError

_SECRETS = "secrets.json"
_PORTS = "ports.json"


class AlreadyRunning(ArtseekError):
    """Another system runs on the same data folder."""


class DataFolder:
    """The folder of one local system. Only one may run on it at a time."""

    def __init__(self, path: Path) -> None:
        """Make the folder, private to its owner, and lock it.

        Raises:
            AlreadyRunning: Another process has locked it.
        """
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path.resolve()
        self._lock: IO[str] = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"another artseek runs on {path}; stop it, or choose another folder") from None
        for name in ("logs", "models", "objects", "query", "valkey-index", "valkey-broker"):
            (self.path / name).mkdir(exist_ok=True)

    def secrets(self) -> dict[str, str]:
        """Return the passwords of the local servers, generated at the first start."""
        kept = self._read(_SECRETS)
        wanted = ("index_password", "broker_password", "s3_access_key", "s3_secret_key")
        made = {name: str(kept.get(name) or secrets.token_hex(20)) for name in wanted}
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
