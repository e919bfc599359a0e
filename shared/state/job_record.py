"""Writes to the record of a job, a hash: each is one step, and nothing is written where there is no record.

A record that is lost between a look and a write would come back as half of one, and never expire.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.state.connection import Client
from shared.state.job_list import KEPT_S

_UPDATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""
_NOTE_ONCE: Final = f"""
if redis.call('EXISTS', KEYS[1]) == 0 then return ARGV[2] end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], {KEPT_S})
return redis.call('HGET', KEYS[1], ARGV[1])
"""


def update(client: Client, job: str, fields: Mapping[str, int]) -> Any:
    """Write fields of a job's record; returns 1 if there is one. `client` may be a pipeline."""
    return client.eval(_UPDATE, 1, f"job:{job}", *(word for pair in fields.items() for word in pair))


def note_once(client: Client, job: str, name: str, number: int) -> int:
    """Note a number in a job's record unless one is noted by that name; returns the one that is."""
    return int(client.eval(_NOTE_ONCE, 1, f"job:{job}", f"noted:{name}", number))
