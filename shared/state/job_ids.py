"""The ids of jobs, which say when a job began."""

import re
import secrets
import time

_TICKS = 0x1000  # of a job's id in a second: three hexadecimal digits
_ID = re.compile(r"[0-9a-f]{23}")


def new_job_id() -> str:
    """Return an id for a job: sortable by time to a quarter of a millisecond, unguessable."""
    return f"{time.time_ns() * _TICKS // 10**9:011x}{secrets.token_hex(6)}"


def began(job: str) -> float | None:
    """Return when a job began, in seconds since 1970, by its id; None if the id was not made by `new_job_id`."""
    return int(job[:11], 16) / _TICKS if _ID.fullmatch(job) else None
