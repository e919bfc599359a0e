"""Reports on duplicates and verdicts on pairs in the object store.

A verdict is an object of its own, whose key says all that counts, so no writer waits for another and a listing reads
them all. Of several on one pair the latest counts. A search that runs anew finds them there.
"""

import re
import time
from collections.abc import Iterable
from typing import Final, get_args

from shared.duplicates.report import DuplicateReport
from shared.duplicates.share import Verdict
from shared.errors import Invalid, NotFound, ObjectNotFound
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

Verdicts = dict[tuple[int, int], Verdict]
"""The verdicts by the ids of a pair, the smaller first."""

KEPT_REPORTS: Final = 3
"""Reports of a collection that are kept: the newest."""

_REPORT: Final = StoredKind("report on duplicates")
_VERDICT: Final = StoredKind("verdict on a pair")
_OPEN: Final = "open"
_WORDS: Final[dict[str, Verdict]] = {word: word for word in get_args(Verdict)}
_NAME: Final = re.compile(r"(\d+)-(\d+)/([0-9a-f]{16})-([a-z]+)\.json")


class Duplicates:
    """Reads and writes what is known of duplicates in collections."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    # Reports

    def ids(self, collection: str) -> list[str]:
        """Return the ids of the reports on a collection, the newest first."""
        prefix = evaluation_layout.duplicate_reports_prefix(collection)
        names = (item.key.removeprefix(prefix) for item in self._store.list(prefix))
        return sorted((name.removesuffix(".json") for name in names if name.endswith(".json")), reverse=True)

    def get(self, collection: str, report: str) -> DuplicateReport:
        """Return a report.

        Raises:
            NotFound: There is none of this id.
            Invalid: It cannot be read; `TooNew` where a newer version wrote it.
        """
        key = evaluation_layout.duplicate_report_key(collection, report)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            raise NotFound(f"the collection {collection!r} has no report {report[:80]!r} on duplicates") from None
        return _REPORT.loads(data, DuplicateReport.from_json, place=key)

    def put(self, collection: str, report: DuplicateReport) -> None:
        """Write a report, and remove those before the newest few."""
        key = evaluation_layout.duplicate_report_key(collection, report.id)
        self._store.put(key, _REPORT.dumps(report.to_json()), "application/json")
        for old in self.ids(collection)[KEPT_REPORTS:]:
            self.delete(collection, old)

    def delete(self, collection: str, report: str) -> None:
        """Remove a report."""
        self._store.delete([evaluation_layout.duplicate_report_key(collection, report)])

    # Verdicts

    def verdicts(self, collection: str) -> Verdicts:
        """Return what was judged of pairs of a collection."""
        latest: dict[tuple[int, int], tuple[str, str]] = {}
        for _, pair, said in self._judged(collection):
            latest[pair] = max(said, latest.get(pair, said))
        return {pair: _WORDS[word] for pair, (_, word) in latest.items() if word in _WORDS}

    def judge(self, collection: str, pair: tuple[int, int], verdict: Verdict | None, *, by: str) -> None:
        """Note what somebody judged of a pair, whose ids come the smaller first; None takes back what was judged.

        Raises:
            Unavailable: The store does not answer.
        """
        prefix = evaluation_layout.verdicts_prefix(collection, *pair)
        before = [item.key for item in self._store.list(prefix)]
        last = max((int(key.removeprefix(prefix).partition("-")[0], 16) for key in before), default=0)
        name = f"{max(time.time_ns(), last + 1):016x}-{verdict or _OPEN}.json"
        self._store.put(prefix + name, _VERDICT.dumps({"by": by}), "application/json")
        self._store.delete(before)

    def _judged(self, collection: str) -> Iterable[tuple[str, tuple[int, int], tuple[str, str]]]:
        """Yield key, pair, and moment and word of each verdict that is stored."""
        prefix = evaluation_layout.verdicts_prefix(collection)
        for item in self._store.list(prefix):
            if found := _NAME.fullmatch(item.key.removeprefix(prefix)):
                yield item.key, (int(found[1]), int(found[2])), (found[3], found[4])

    # Removing

    def forget(self, collection: str, image_ids: Iterable[int]) -> None:
        """Remove all that is said of images that are removed for good; it may run twice.

        A report that cannot be read is removed whole: it may name them, and a search makes another.

        Raises:
            Unavailable: The store does not answer.
        """
        gone = set(image_ids)
        self._store.delete([key for key, pair, _ in self._judged(collection) if gone.intersection(pair)])
        for name in self.ids(collection):
            try:
                report = self.get(collection, name)
            except NotFound:
                continue
            except Invalid:
                self.delete(collection, name)
                continue
            if (left := report.without(gone)) != report:
                self.put(collection, left)

    def drop(self, collection: str) -> None:
        """Remove all that is known of a collection's duplicates."""
        self._store.delete([item.key for item in self._store.list(evaluation_layout.duplicates_prefix(collection))])
