"""What a system consisted of at one time: every object with its digest. Written as lines of JSON, compressed.

The first line is the header. Each other line is an array: ``["object", key, digest, size, etag]`` for an object of the
store, ``["model", path, digest, size]`` for a file of the folder of models.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from shared.errors import Invalid
from shared.versioned import StoredKind

_KIND = StoredKind("snapshot")
_LINE = 2**20  # bytes of the longest line that is read
_LARGEST = 2**44  # bytes that an object may have
_LONGEST_KEY = 1024  # bytes, as S3 has it
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MODEL_FILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}/[1-9][0-9]{0,18}/.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of the store, or a file of the folder of models.

    Attributes:
        key: The object's key, or the file's path in the folder of models.
        digest: The SHA-256 of its bytes, which names its blob.
        size: Its size in bytes.
        etag: What the object store told its version by when it was read.
    """

    key: str
    digest: str
    size: int
    etag: str = ""


@dataclass(frozen=True)
class Header:
    """What a snapshot says beside its entries.

    Attributes:
        created: When the backup was made, RFC 3339.
        artseek: The version of Artseek that made it.
        source: The object store that was backed up.
        settings: The settings that were not left at their defaults, by their environment names.
        with_secrets: Whether passwords and keys are among them.
        damaged: Keys of objects that were damaged when they were read; the snapshot holds them as they were.
        images: Originals.
        linked: Originals that the backup does not hold: they are files of their owners, which it has links to.
        collections: Collections.
    """

    created: str
    artseek: str
    source: str
    settings: dict[str, str] = field(default_factory=dict)
    with_secrets: bool = False
    damaged: tuple[str, ...] = ()
    images: int = 0
    linked: int = 0
    collections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A system at one time."""

    header: Header
    objects: tuple[Entry, ...]
    models: tuple[Entry, ...] = ()

    @property
    def entries(self) -> Iterator[Entry]:
        """All entries."""
        yield from self.objects
        yield from self.models

    def write(self, file: BinaryIO) -> None:
        """Write the snapshot to a file."""
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
            head = {**asdict(self.header), "entries": len(self.objects) + len(self.models)}
            packed.write(_KIND.dumps(head) + b"\n")
            for entry in self.objects:
                packed.write(_line(["object", entry.key, entry.digest, entry.size, entry.etag]))
            for entry in self.models:
                packed.write(_line(["model", entry.key, entry.digest, entry.size]))

    @classmethod
    def read(cls, file: BinaryIO, name: str) -> "Snapshot":
        """Return the snapshot in a file, every key and size checked: whoever can write to a backup chooses them.

        Raises:
            TooNew: A newer version of Artseek wrote it.
        Invalid: The file is damaged, or names what no snapshot may.
        """
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as packed:
                header, count = _KIND.loads(_next_line(packed, name), _header, place=name)
                objects: list[Entry] = []
                models: list[Entry] = []
                seen: set[tuple[bool, str]] = set()
                while line := _next_line(packed, name):
                    is_model, entry = _entry(line, name)
                    if (is_model, entry.key) in seen:
                        raise Invalid(f"the snapshot {name} names {entry.key!r} twice")
                    seen.add((is_model, entry.key))
                    (models if is_model else objects).append(entry)
        except (OSError, EOFError, zlib.error) as error:
            raise Invalid(f"the snapshot {name} is damaged: {error}") from error
        if len(objects) + len(models) != count:
            raise Invalid(f"the snapshot {name} is damaged: it lacks entries")
        return cls(header, tuple(objects), tuple(models))


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _next_line(file: gzip.GzipFile, name: str) -> bytes:
    """Return the next line of a snapshot; empty at its end."""
    line = file.readline(_LINE)
    if line and not line.endswith(b"\n"):
        raise Invalid(f"the snapshot {name} is damaged: a line of it is longer than {_LINE} bytes")
    return line


def _header(value: Any) -> tuple[Header, int]:
    """Return the header in the values of a line, and how many entries follow."""
    header = Header(
        created=str(value["created"]),
        artseek=str(value["artseek"]),
        source=str(value["source"]),
        settings={str(key): str(text) for key, text in value["settings"].items()},
        with_secrets=bool(value["with_secrets"]),
        damaged=tuple(str(key) for key in value["damaged"]),
        images=int(value["images"]),
        linked=int(value.get("linked", 0)),
        collections=tuple(str(collection) for collection in value["collections"]),
    )
    return header, int(value["entries"])


def _entry(line: bytes, name: str) -> tuple[bool, Entry]:
    """Return whether a line names a model's file, and its entry."""
    try:
        kind, key, digest, size, *rest = json.loads(line)
        entry = Entry(key, digest, size, *rest)
    except (TypeError, ValueError):
        kind, entry = "", Entry("", "", 0)
    of_model = kind == "model"
    if kind not in ("object", "model") or not fits(entry) or (of_model and not _MODEL_FILE.fullmatch(entry.key)):
        raise Invalid(f"the snapshot {name} is damaged or forged: {line[:200]!r} cannot be an entry")
    return of_model, entry


def fits(entry: Entry) -> bool:
    """Return whether an entry may be one: its key stays where it belongs, its size is one that can be."""
    key, size = entry.key, entry.size
    if not isinstance(key, str) or not isinstance(entry.digest, str) or not isinstance(entry.etag, str):
        return False
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST:
        return False
    try:
        short = 0 < len(key.encode()) <= _LONGEST_KEY
    except UnicodeEncodeError:
        return False
    inside = all(part not in {"", ".", ".."} for part in key.split("/"))
    plain = key.isprintable() and "\\" not in key
    return short and inside and plain and _DIGEST.fullmatch(entry.digest) is not None


def packed(snapshot: Snapshot) -> bytes:
    """Return a snapshot as bytes."""
    file = io.BytesIO()
    snapshot.write(file)
    return file.getvalue()


def total_bytes(entries: Iterable[Entry]) -> int:
    """Return the bytes of entries together."""
    return sum(entry.size for entry in entries)
