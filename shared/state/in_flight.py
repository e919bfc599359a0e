"""Jobs in flight: what each requester has handed in that is not done, so that nobody fills the queues alone.

Room for a job is taken before it is handed in, in one step, so that requests at the same time get no more than there
is. It is kept for a while and then goes back by itself: whoever took it may have died.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from shared.state.connection import Client, guarded
from shared.state.job_list import KEPT_S
from shared.state.jobs import Jobs, Kind

ROOM_S: Final = 600
"""How long room is kept for a request that neither hands in a job nor gives it back: longer than one takes."""

_SEPARATOR: Final = " "
_ROOM: Final = "room "  # and a random name: what is no id of a job
# Counts what a requester has, and takes room unless that is too much. Arguments: the room's name, the kind of the job,
# its images; the most jobs, images and evaluations; the seconds that room is kept.
_TAKE: Final = f"""
local heavy = {{evaluate = true, duplicates = true}}
local now = tonumber(redis.call('TIME')[1])
local jobs, images, evaluations = 0, 0, 0
local noted = redis.call('HGETALL', KEYS[1])
for place = 1, #noted, 2 do
  local kind, count, at = string.match(noted[place + 1], '^(%S+) (%d+) ?(%d*)$')
  if at ~= '' and now - tonumber(at) >= tonumber(ARGV[7]) then
    redis.call('HDEL', KEYS[1], noted[place])
  else
    jobs, images = jobs + 1, images + tonumber(count)
    if heavy[kind] then evaluations = evaluations + 1 end
  end
end
local wanted = tonumber(ARGV[3])
if jobs >= tonumber(ARGV[4])
  or wanted > 0 and images > 0 and images + wanted > tonumber(ARGV[5])
  or heavy[ARGV[2]] and evaluations >= tonumber(ARGV[6])
then return {{0, jobs, images, evaluations}} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. now)
redis.call('EXPIRE', KEYS[1], {KEPT_S})
return {{1, jobs, images, evaluations}}
"""
_NOTE: Final = f"""
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], {KEPT_S})
"""


@dataclass(frozen=True)
class Load:
    """What a requester has in flight: jobs, images of uploads in them, and evaluations."""

    jobs: int = 0
    images: int = 0
    evaluations: int = 0


class InFlight:
    """Takes room for jobs, notes who handed them in, and forgets those that are done."""

    def __init__(self, client: Client, jobs: Jobs) -> None:
        self._redis, self._jobs = client, jobs

    def take(self, requester: str, kind: Kind, images: int, most: Load) -> tuple[str | None, Load]:
        """Take room for a job of a requester; returns the room, None if there is none, and what they had before.

        A single upload may have more images than the most: it is taken when no other image is under way.
        """
        self._forget_done(requester)
        room = f"{_ROOM}{secrets.token_hex(8)}"
        bounds = (most.jobs, most.images, most.evaluations)
        with guarded():
            taken, *had = self._redis.eval(_TAKE, 1, _key(requester), room, kind, images, *bounds, ROOM_S)
        return room if taken else None, Load(*map(int, had))

    def note(self, requester: str, room: str, job: str, kind: Kind, images: int = 0) -> None:
        """Note the job that room was taken for, and how many images of an upload are in it."""
        with guarded():
            self._redis.eval(_NOTE, 1, _key(requester), room, job, f"{kind}{_SEPARATOR}{images}")

    def give_back(self, requester: str, room: str) -> None:
        """Give room back for which no job was handed in."""
        with guarded():
            self._redis.hdel(_key(requester), room)

    def _forget_done(self, requester: str) -> None:
        with guarded():
            noted = {field.decode() for field in self._redis.hkeys(_key(requester))}
        jobs = {field for field in noted if not field.startswith(_ROOM)}
        done = jobs - self._jobs.unfinished_ids() if jobs else None
        if done:
            with guarded():
                self._redis.hdel(_key(requester), *done)


def _key(requester: str) -> str:
    return f"in-flight:{requester}"
