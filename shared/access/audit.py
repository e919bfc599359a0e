"""The audit log: who did what to which collection or image, when, from where, and what came of it.

An entry is an object of its own, written before the change: a change that is not in the log did not happen. What came
of it is added afterwards. The entries of a day that is over are put together into one object of JSON lines.
"""

import json
import logging
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from shared.errors import Invalid, ObjectNotFound
from shared.storage import access_layout
from shared.storage.object_store import ObjectStore
from shared.timestamps import rfc3339
from shared.versioned import StoredKind

_ENTRY: Final = StoredKind("entry of the audit log")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_READS: Final = 16  # at a time
MOST_IMAGES: Final = 10_000
MOST_DETAIL: Final = 500  # characters
_log = logging.getLogger(__name__)


class AuditAnswer(TypedDict):
    """An entry as JSON: `status` and `job` are there once it is known what came of it."""

    id: str
    at: str
    who: str
    address: str
    what: str
    collection: str
    images: list[int]
    detail: str
    status: NotRequired[int]
    job: NotRequired[str]


@dataclass(frozen=True)
class AuditEntry:
    """An entry.

    Attributes:
        id: Sorts by time.
        at: When, in seconds since 1970.
        who: `account ann`, `key 0a1b2c3d4e5f`, `command line` and the like.
        address: The IP address that the request came from; empty for a command.
        what: What was asked for, such as `delete_image`.
        collection: In which collection; empty: in none.
        images: Ids of the images, where the request names them.
        detail: More, in words.
        status: The HTTP status that was answered; None: not known, if the process died.
        job: The job that goes on with it; empty: none.
    """

    id: str
    at: float
    who: str
    address: str
    what: str
    collection: str = ""
    images: tuple[int, ...] = ()
    detail: str = ""
    status: int | None = None
    job: str = ""

    @property
    def day(self) -> str:
        """The day in UTC."""
        return day_of(self.at)

    def to_json(self) -> dict[str, Any]:
        """Return the values to be stored."""
        return {**vars(self), "images": list(self.images)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "AuditEntry":
        """Return the entry of stored values."""
        return cls(**{**values, "images": tuple(values["images"])})

    def to_answer(self) -> AuditAnswer:
        """Return the entry as it is shown."""
        answer = AuditAnswer(
            id=self.id,
            at=rfc3339(self.at),
            who=self.who,
            address=self.address,
            what=self.what,
            collection=self.collection,
            images=list(self.images),
            detail=self.detail,
        )
        if self.status is not None:
            answer["status"] = self.status
        if self.job:
            answer["job"] = self.job
        return answer


class AuditLog:
    """Writes and reads the log; entries are changed by nobody but `finish`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def begin(
        self,
        *,
        who: str,
        what: str,
        address: str = "",
        collection: str = "",
        images: Sequence[int] = (),
        detail: str = "",
    ) -> AuditEntry:
        """Write an entry before what it says is done.

        Raises:
            Unavailable: It cannot be written: what it says must not be done.
        """
        now = time.time()
        entry = AuditEntry(
            f"{int(now * 1e6):016d}-{secrets.token_hex(4)}",
            now,
            who,
            address,
            what,
            collection,
            tuple(images[:MOST_IMAGES]),
            detail[:MOST_DETAIL],
        )
        self._put(entry)
        return entry

    def add_images(self, entry: AuditEntry, images: Sequence[int]) -> AuditEntry:
        """Add the images that an entry is about, before the change."""
        changed = replace(entry, images=tuple(images[:MOST_IMAGES]))
        self._put(changed)
        return changed

    def add_detail(self, entry: AuditEntry, detail: str) -> AuditEntry:
        """Add to what an entry says in words, before the change."""
        changed = replace(entry, detail=f"{entry.detail} {detail}".strip()[:MOST_DETAIL])
        self._put(changed)
        return changed

    def finish(self, entry: AuditEntry, *, status: int, job: str = "") -> None:
        """Add to an entry what came of it."""
        self._put(replace(entry, status=status, job=job))

    def _put(self, entry: AuditEntry) -> None:
        key = access_layout.audit_entry_key(entry.day, entry.id)
        self._store.put(key, _ENTRY.dumps(entry.to_json()), "application/json")

    # Reading

    def days(self) -> list[str]:
        """Return the days of which there are entries, the latest first."""
        found = {name.removesuffix(".jsonl") for name in self._store.children(access_layout.AUDIT)}
        return sorted((day for day in found if _DAY.fullmatch(day)), reverse=True)

    def of_day(self, day: str) -> list[AuditEntry]:
        """Return the entries of a day, the latest first."""
        whole = self._whole(day)
        keys = [item.key for item in self._store.list(access_layout.audit_day_prefix(day))]
        with ThreadPoolExecutor(_READS, thread_name_prefix="audit") as pool:
            single = [entry for found in pool.map(self._single, keys) for entry in found]
        # One that was finished after the day was put together counts as it stands alone.
        entries = {entry.id: entry for entry in (*whole, *single)}
        return sorted(entries.values(), key=lambda entry: entry.id, reverse=True)

    def latest(self, *, most: int, days: int = 31, collection: str = "", who: str = "") -> list[AuditEntry]:
        """Return up to so many entries of the last days that there are, the latest first; empty filters mean any."""
        found: list[AuditEntry] = []
        for day in self.days()[:days]:
            found += [entry for entry in self.of_day(day) if _fits(entry, collection, who)]
            if len(found) >= most:
                break
        return found[:most]

    def _single(self, key: str) -> list[AuditEntry]:
        try:
            return list(_entries([self._store.get(key)], key))
        except ObjectNotFound:  # put together with the others since it was listed
            return []

    def _whole(self, day: str) -> list[AuditEntry]:
        key = access_layout.audit_day_key(day)
        try:
            return list(_entries(self._store.get(key).splitlines(), key))
        except ObjectNotFound:
            return []

    # Keeping it small

    def tidy(self, *, days: float) -> None:
        """Put together the entries of each day that is over, and remove those of more than `days` days ago.

        It may be done twice, and may die in the middle: nothing is lost.
        """
        today = day_of(time.time())
        oldest = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d")
        yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
        for day in self.days():
            if day < oldest:
                keys = [item.key for item in self._store.list(access_layout.audit_day_prefix(day))]
                self._store.delete([*keys, access_layout.audit_day_key(day)])
            elif day < yesterday or (day < today and datetime.now(UTC).hour >= 1):  # none is still being finished
                self._put_together(day)

    def _put_together(self, day: str) -> None:
        keys = [item.key for item in self._store.list(access_layout.audit_day_prefix(day))]
        if not keys:
            return
        lines = [_ENTRY.dumps(entry.to_json()) for entry in reversed(self.of_day(day))]
        self._store.put(access_layout.audit_day_key(day), b"\n".join(lines) + b"\n", "application/x-ndjson")
        self._store.delete(keys)


def json_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield each entry as a line of JSON."""
    return (json.dumps(entry.to_answer(), ensure_ascii=False) + "\n" for entry in entries)


def day_of(seconds: float) -> str:
    """Return the day of a time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def is_day(text: str) -> bool:
    """Return whether a text is a day, such as ``2026-11-28``."""
    return _DAY.fullmatch(text) is not None


def _fits(entry: AuditEntry, collection: str, who: str) -> bool:
    return collection in {"", entry.collection} and who in entry.who


def _entries(lines: Iterable[bytes], place: str) -> Iterator[AuditEntry]:
    for line in lines:
        try:
            yield _ENTRY.loads(line, AuditEntry.from_json, place=place)
        except Invalid as error:
            _log.error("%s; it is passed over", error)
