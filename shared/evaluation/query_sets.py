"""Query sets: labelled images to evaluate collections by, which stay as long as something refers to them.

A set is named by its content, so that the same images with the same labels are one set however often they are sent.
It stays while an evaluation that used it is there, or a name that it is kept under. Adding a set and letting go of it
take the lock `querysets`, since sets share their originals.

A query knows the collections that it was copied from. Who may not look at these must not see it.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from shared.errors import Invalid, NotFound, ObjectNotFound, TooNew
from shared.state import State
from shared.state.locks import QUERY_SETS_LOCK
from shared.storage import evaluation_layout, layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_JSON = "application/json"
_WAIT_S = 120.0
_QUERY_SET, _KEPT_SET = StoredKind("query set", 3), StoredKind("name of a query set")

UNKNOWN_SOURCE: Final = "?"
"""Where a query comes from that was stored before sets noted it."""


def source_of(created: float) -> str:
    """Return what query sets call a collection: when it was created, which no rename and no other of its name has."""
    return repr(float(created))


@dataclass(frozen=True, order=True)
class LabelledQuery:
    """An image to search for.

    Attributes:
        digest: SHA-256 of its original, by which collections know it.
        name: What it came under.
        label: Its class.
        size: Bytes that are stored of it.
        file: SHA-256 of these, where they are not the original: of a page behind the first of a document, its picture.
        sources: The collections that it was copied from, by `source_of`; none: it was sent as a file.
    """

    digest: str
    name: str
    label: str
    size: int
    file: str = ""
    sources: tuple[str, ...] = ()

    @property
    def stored(self) -> str:
        """SHA-256 of the bytes that are stored of it: see `evaluation_layout.query_key`."""
        return self.file or self.digest

    def to_json(self) -> dict[str, Any]:
        """Return what is stored of it in a set."""
        return {name: value for name, value in asdict(self).items() if name != "file" or value}

    def also_of(self, sources: Iterable[str]) -> "LabelledQuery":
        """Return the query as one that came from elsewhere too. Whoever brings it again tells what was not known."""
        own, other = set(self.sources), set(sources)
        return replace(self, sources=tuple(sorted((own | other) - ({UNKNOWN_SOURCE} - (own & other)))))


@dataclass(frozen=True)
class QuerySet:
    """Labelled queries, sorted, each image once."""

    queries: tuple[LabelledQuery, ...]

    @classmethod
    def of(cls, queries: Iterable[LabelledQuery]) -> "QuerySet":
        """Return a set of queries; an image that comes twice counts once, under the first of its names.

        Raises:
            Invalid: An image comes with two labels, or there is none.
        """
        held: dict[str, LabelledQuery] = {}
        for query in sorted(queries):
            other = held.get(query.digest)
            held[query.digest] = query if other is None else other.also_of(query.sources)
            if other is not None and other.label != query.label:
                raise Invalid(
                    f"{other.name!r} and {query.name!r} are the same image, once of class {other.label!r} and once of "
                    f"{query.label!r}: remove one of them"
                )
        if not held:
            raise Invalid("there is no labelled query: put the images into a folder for each class")
        return cls(tuple(held.values()))

    @property
    def digest(self) -> str:
        """What the set is named by: images and labels count, names do not."""
        return layout.digest_of(json.dumps([[query.digest, query.label] for query in self.queries]).encode())


class QuerySets:
    """Reads and writes query sets."""

    def __init__(self, store: ObjectStore, state: State) -> None:
        self._store, self._state = store, state

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            Locked: Another process holds it for minutes.
        """
        with self._state.locks.hold(QUERY_SETS_LOCK, wait_s=_WAIT_S):
            yield

    def add(self, queries: QuerySet, *, user: str | None = None, name: str | None = None) -> None:
        """Write a set whose originals are stored, for an evaluation or under a name; the caller holds the lock.

        The same set may be there from elsewhere: its queries come from both then.
        """
        before = self._sources(queries.digest)
        joined = [query.also_of(before.get(query.digest, query.sources)) for query in queries.queries]
        self._store.put(evaluation_layout.query_set_key(queries.digest), _packed(joined), _JSON)
        if user is not None:
            self.use(queries.digest, user)
        if name is not None:
            self.keep(name, queries.digest)

    def get(self, digest: str) -> QuerySet:
        """Return a set.

        Raises:
            NotFound: There is no such set.
        """
        key = evaluation_layout.query_set_key(digest)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            raise NotFound(f"there is no query set {digest[:16]}…: send the queries again") from None
        return _QUERY_SET.loads(data, _query_set, place=key)

    def _sources(self, digest: str) -> dict[str, tuple[str, ...]]:
        """Return where the queries of a set come from, by their digests; empty if there is none that can be read."""
        try:
            return {query.digest: query.sources for query in self.get(digest).queries}
        except TooNew:
            raise
        except (NotFound, Invalid):
            return {}

    def replace(self, digest: str, queries: Iterable[LabelledQuery]) -> None:
        """Write a set anew under the digest that it was named by; the caller holds the lock."""
        self._store.put(evaluation_layout.query_set_key(digest), _packed(queries), _JSON)

    def use(self, digest: str, user: str) -> None:
        """Note that an evaluation uses a set."""
        self._store.put(evaluation_layout.query_set_users_prefix(digest) + user, b"")

    def used_by(self, user: str) -> list[str]:
        """Return the digests of the sets that an evaluation uses."""
        keys = (item.key for item in self._store.list(evaluation_layout.QUERY_SETS))
        return [key.split("/")[1] for key in keys if key.endswith(f"/users/{user}")]

    # Names

    def keep(self, name: str, digest: str) -> None:
        """Keep a set under a name, in place of the one that had it before.

        Raises:
            Invalid: The name does not fit.
        """
        layout.collection_name(name)
        value = {"name": name, "set": digest, "created": time.time()}
        self._store.put(evaluation_layout.kept_set_key(name), _KEPT_SET.dumps(value), _JSON)

    def kept(self, name: str) -> str:
        """Return the digest of the set that is kept under a name.

        Raises:
            Invalid: The name does not fit.
            NotFound: There is none.
        """
        layout.collection_name(name)
        key = evaluation_layout.kept_set_key(name)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            known = ", ".join(self.names()) or "none is kept yet"
            raise NotFound(f"there is no query set named {name!r} ({known}): keep one with --keep") from None
        return _KEPT_SET.loads(data, lambda values: str(values["set"]), place=key)

    def drop(self, name: str) -> None:
        """Keep a set under a name no longer; without users and other names, it goes.

        Raises:
            NotFound: There is none.
        """
        digest = self.kept(name)
        self._store.delete([evaluation_layout.kept_set_key(name)])
        self.release(digest)

    def names(self) -> list[str]:
        """Return the names that sets are kept under, sorted."""
        keys = (item.key for item in self._store.list(evaluation_layout.KEPT_SETS))
        return sorted(key.removeprefix(evaluation_layout.KEPT_SETS).removesuffix(".json") for key in keys)

    # The end

    def release(self, digest: str, user: str | None = None) -> None:
        """Note that a name is gone, or an evaluation that came to nothing or was removed: it no longer uses a set.

        Without users and names, the set goes.
        """
        with self.changing():
            if user is not None:
                self._store.delete([evaluation_layout.query_set_users_prefix(digest) + user])
            if any(True for _ in self._store.list(evaluation_layout.query_set_users_prefix(digest))):
                return
            if digest in {self.kept(name) for name in self.names()}:
                return
            try:
                stored = {query.stored for query in self.get(digest).queries}
            except NotFound:
                return
            self._store.delete([evaluation_layout.query_set_key(digest)])
            self.forget(stored)

    def forget(self, stored: Iterable[str]) -> None:
        """Remove what is stored of images that no set has, by the digests of it; the caller holds the lock."""
        unused = set(stored)
        for set_digest in self.digests():
            unused -= {query.stored for query in self.get(set_digest).queries}
        self._store.delete([evaluation_layout.query_key(digest) for digest in sorted(unused)])

    def digests(self) -> set[str]:
        """Return the digests of all sets."""
        keys = (item.key for item in self._store.list(evaluation_layout.QUERY_SETS))
        return {key.split("/")[1] for key in keys if key.endswith("/queries.json")}


def _packed(queries: Iterable[LabelledQuery]) -> bytes:
    return _QUERY_SET.dumps({"queries": [query.to_json() for query in queries]})


def _query_set(values: Any) -> QuerySet:
    queries = values if isinstance(values, list) else values["queries"]  # version 0.1 stored the list alone
    return QuerySet(
        tuple(
            LabelledQuery(**{**query, "sources": tuple(query.get("sources", (UNKNOWN_SOURCE,)))}) for query in queries
        )
    )
