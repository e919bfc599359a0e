"""Errors that cross module borders.

ArtseekError
├── Unavailable          a server did not answer: the same call may succeed later
│   ├── StoreUnavailable     the object store
│   ├── IndexUnavailable     Redis/Valkey with buckets and ids
│   ├── BrokerUnavailable    Redis/Valkey with the queues
│   ├── Locked               another worker holds the lock
│   ├── Closed               the collection changes to another model at this moment
│   └── IndexLost            the index is empty though the store has images: it is being rebuilt, or wants `rebuild`
├── NotFound             the named thing does not exist
│   └── ObjectNotFound       an object of the store
└── Invalid              a value does not fit; the message says what does
"""


class ArtseekError(Exception):
    """An error whose message can be shown to the user as it is."""


class Unavailable(ArtseekError):
    """A server did not answer; trying again later may succeed."""


class StoreUnavailable(Unavailable):
    """The object store did not answer."""


class Locked(Unavailable):
    """Another worker holds the lock."""


class Closed(Unavailable):
    """The collection is about to change to another embedding set, and takes no changes until it has."""


class IndexUnavailable(Unavailable):
    """The Redis or Valkey server with buckets and ids did not answer."""


class BrokerUnavailable(Unavailable):
    """The Redis or Valkey server with the task queues did not answer."""


class IndexLost(Unavailable):
    """The index holds nothing of a collection that the object store has."""


class NotFound(ArtseekError):
    """The named thing does not exist."""


class ObjectNotFound(NotFound):
    """The object store has no such object."""


class Invalid(ArtseekError, ValueError):
    """A value does not fit; the message names it and says what does."""
