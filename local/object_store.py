"""SeaweedFS as the local object store: its configuration, and what vacuums it.

Beside the S3 port, whose requests are signed, it opens a dozen others. They ask for a certificate of its group, and its
filer asks for a token as well, since it listens at a Unix socket too.
"""

import base64
import hashlib
import hmac
import json
import sqlite3
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from local.certificates import Certificates

SECURITY_FILE = "security.toml"
"""In the folder that SeaweedFS runs in, where it looks first."""

IDENTITIES_FILE = "objects-s3.json"

FILER_FILE = "filer.toml"
"""In the same folder: where the filer keeps the names of objects."""

TOKEN_KEYS = ("store_signing", "store_read_signing", "filer_signing", "filer_read_signing")
"""The names of the secrets that the tokens within the store are signed with."""

_TOKEN_TABLES = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTP = ("master", "volume", "filer", "admin")
_GARBAGE_SHARE = 1e-9
_TIMEOUT_S = 300.0
_TOKEN_LASTS_S = 60
_CHANGES = "/topics/.system/log"
_LEVELDB = "objects/filerldb2"
_SQLITE = "objects/filer.db"
_DAMAGED = "; it is damaged: restore a backup into a new data folder"
_BUSY_S = 60
_ERASING = f"_pragma=busy_timeout({_BUSY_S * 1000})&_pragma=secure_delete(1)&_pragma=journal_mode(WAL)"
"""Has SQLite overwrite what is deleted, and wait while its file is rewritten. A LevelDB keeps what is deleted until
64 MB of changes have come after. Changes go to a log of their own first, which costs less than a journal; after a purge
it is emptied."""


@dataclass(frozen=True)
class Identity:
    """A user of the S3 port, with what it may do in SeaweedFS' words."""

    name: str
    access_key: str
    secret_key: str
    actions: Sequence[str]


def security_text(files: Certificates, secret: Mapping[str, str]) -> str:
    """Return the content of SeaweedFS' security.toml, with paths relative to the folder that it runs in."""
    shown = [f'cert = "{files.certificate}"', f'key = "{files.key}"']
    asked = f'ca = "{files.ca}"'
    lines = ["# Written by artseek at every start.", "[cors.allowed_origins]", 'values = ""']
    for table, name in zip(_TOKEN_TABLES, TOKEN_KEYS, strict=True):
        lines += [f"[{table}]", f'key = "{secret[name]}"']
    lines += ["[access]", "ui = false", "[grpc]", asked]
    for name in _GRPC:
        lines += [f"[grpc.{name}]", *shown]
    for name in _HTTP:
        lines += [f"[https.{name}]", *shown, asked]
    lines += ["[https.client]", "enabled = true", *shown, asked]
    return "\n".join(lines) + "\n"


def identities_text(identities: Sequence[Identity]) -> str:
    """Return the content of the file with the S3 users."""
    entries = [
        {
            "name": identity.name,
            "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}],
            "actions": list(identity.actions),
        }
        for identity in identities
    ]
    return json.dumps({"identities": entries}, indent=2)


def filer_text(folder: Path) -> str:
    """Return the content of the file that says where names are kept: in SQLite, if a data folder has no LevelDB yet."""
    kept = (folder / _LEVELDB).exists()
    lines = ["# Written by artseek at every start.", "[leveldb2]", f"enabled = {str(kept).lower()}"]
    lines += [f'dir = "{_LEVELDB}"', "[sqlite]", f"enabled = {str(not kept).lower()}"]
    return "\n".join([*lines, f'dbFile = "{_SQLITE}?{_ERASING}"', ""])


def command(weed: Path, host: str, ports: Mapping[str, int]) -> list[str]:
    """Return the command that runs the store in the data folder; `ports` are by the part that listens there."""
    return [
        str(weed),
        "-logtostderr",  # a log of its own in files would not be bounded as ours is
        "mini",
        "-dir=objects",  # within the data folder: it takes a comma in a path for the beginning of another
        f"-ip={host}",
        f"-ip.bind={host}",
        *(f"-{name}.port={port}" for name, port in ports.items()),
        f"-s3.config={IDENTITIES_FILE}",
        "-s3.iam=false",
        "-s3.allowedOrigins=",  # by default, any page may send what it likes, if only it could sign it
        "-filer.allowedOrigins=",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.id=artseek",  # its address changes from start to start
    ]


class StoreVacuum:
    """Vacuums the local object store, by the addresses (host:port) of its master and its filer."""

    def __init__(self, master: str, filer: str, *, folder: Path, files: Certificates, filer_signing: str) -> None:
        self._master, self._filer = master, filer
        self._folder, self._files = folder, files
        self._filer_signing = filer_signing

    def run(self) -> None:
        """Remove the log of changes, and rewrite the names and every volume that has garbage.

        Raises:
            OSError: The store does not answer, or its file of names stays locked, or is damaged.
        """
        self.remove_folder(_CHANGES)
        self._rewrite_names()
        self._send("GET", f"https://{self._master}/vol/vacuum?garbageThreshold={_GARBAGE_SHARE:.9f}")

    def _rewrite_names(self) -> None:
        """Have SQLite write its file anew, and empty its log.

        A page that was split may hold copies that no deletion overwrites, and the log holds pages as they were before.
        """
        file = self._folder / _SQLITE
        if not file.exists():
            return
        try:
            with closing(sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)) as names:
                names.execute("VACUUM")
                (is_busy, *_) = names.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            remedy = "" if isinstance(error, sqlite3.OperationalError) else _DAMAGED
            raise OSError(f"the file of names {file} could not be rewritten: {error}{remedy}") from error
        if is_busy:
            raise OSError(f"the log of the file of names {file} could not be emptied: it is in use")

    def remove_folder(self, path: str) -> None:
        """Remove a folder of the filer, and whatever is in it, if there is one.

        Raises:
            OSError: The store does not answer.
        """
        url = f"https://{self._filer}{path}?recursive=true&ignoreRecursiveError=true"
        self._send("DELETE", url, token=signed_token(self._filer_signing))

    def _send(self, method: str, url: str, *, token: str = "") -> None:
        context = ssl.create_default_context(cafile=str(self._folder / self._files.ca))
        context.load_cert_chain(self._folder / self._files.certificate, self._folder / self._files.key)
        headers = {"Authorization": f"BEARER {token}"} if token else {}
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 -- our own address
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            if error.code != 404:  # there is no such folder
                raise


def signed_token(key: str) -> str:
    """Return a JSON web token that SeaweedFS takes for a minute, signed with HMAC-SHA256."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"exp": int(time.time()) + _TOKEN_LASTS_S}]
    body = b".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    signature = hmac.new(key.encode(), body, hashlib.sha256).digest()
    return b".".join([body, _base64(signature)]).decode()


def _base64(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")
