"""Errors that cross module borders.

ArtseekError
├── Unavailable          a server did not answer: the same call may succeed later
│   ├── StoreUnavailable     the object store
│   ├── IndexUnavailable     Redis/Valkey with buckets and ids
│   ├── BrokerUnavailable    Redis/Valkey with the queues
│   ├── Locked               another worker holds the lock, or took it over
│   ├── Fenced               another worker has begun the task anew
│   ├── Misconfigured        a server refuses us until a setting is changed: whoever stands by is told at once
│   │   ├── StoreMisconfigured   the object store; also a StoreUnavailable
│   │   ├── IndexMisconfigured   Redis/Valkey with buckets and ids; also an IndexUnavailable
│   │   └── BrokerMisconfigured  Redis/Valkey with the queues; also a BrokerUnavailable
│   ├── Closed               the collection changes to another model at this moment
│   └── IndexLost            the index is empty though the store has images: it is being rebuilt, or wants `rebuild`
├── NotFound             the named thing does not exist
│   ├── ObjectNotFound       an object of the store
│   └── Renamed              a collection that has another name now
└── Invalid              a value does not fit; the message says what does
    ├── TooNew               a newer version of Artseek wrote it
    └── OtherSystem          a Redis or Valkey belongs to another system than the object store
"""


class ArtseekError(Exception):
    """An error whose message can be shown to the user as it is."""


class Unavailable(ArtseekError):
    """A server did not answer; trying again later may succeed."""


class StoreUnavailable(Unavailable):
    """The object store did not answer."""


class Locked(Unavailable):
    """Another worker holds the lock, or took it over from this one."""


class Fenced(Unavailable):
    """Another worker has begun the task anew; this one must not write any more."""


class Closed(Unavailable):
    """The collection is about to change to another embedding set, and takes no changes until it has."""


class IndexUnavailable(Unavailable):
    """The Redis or Valkey server with buckets and ids did not answer."""


class BrokerUnavailable(Unavailable):
    """The Redis or Valkey server with the task queues did not answer."""


class Misconfigured(Unavailable):
    """A server refuses us until a setting is changed; the message names it. Tasks wait, as for any other reason."""


class StoreMisconfigured(StoreUnavailable, Misconfigured):
    """The object store refuses us: keys, rights, bucket or clock."""


class IndexMisconfigured(IndexUnavailable, Misconfigured):
    """The Redis or Valkey server with buckets and ids refuses us: password, rights, kind or age of the server."""


class BrokerMisconfigured(BrokerUnavailable, Misconfigured):
    """The Redis or Valkey server with the task queues refuses us."""


class IndexLost(Unavailable):
    """The index holds nothing of a collection that the object store has."""


class NotFound(ArtseekError):
    """The named thing does not exist."""


class ObjectNotFound(NotFound):
    """The object store has no such object."""


class Renamed(NotFound):
    """There is no collection of this name any more; `new` is what it is called now."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"there is no collection {old!r}: it was renamed to {new!r}")
        self.new = new


class Invalid(ArtseekError, ValueError):
    """A value does not fit; the message names it and says what does."""


class TooNew(Invalid):
    """A newer version of Artseek stored or sent the value; the message says what to do."""


class OtherSystem(Invalid):
    """A Redis or Valkey belongs to another system than the object store; the message names both and the remedy."""
