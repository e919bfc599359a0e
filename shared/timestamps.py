"""Times as text."""

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as RFC 3339 in UTC with milliseconds: ``2024-05-01T12:00:00.000Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
