"""Sums over the entries of a hash that grows with the images, so that nobody reads a whole hash for a number.

The sums lie in a hash beside it. One script writes an entry and adds it to the sums: an entry that is written twice
counts once, and whoever dies leaves none that is not counted. A counted entry begins with a mark.

Entries without the mark are of a version that kept no sums. Whoever reads the sums and finds that the hash has more
entries than are counted has those counted, some at a time: each gets its mark in the step that counts it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.state.connection import Client, guarded
from shared.state.pieces import hash_pieces

_ENTRIES, _FIRST, _TEXT = "entries", "first", "text"
_NEW, _OLDER = "new", "older"

# KEYS: the hash, its sums. ARGV: which entries, the mark, for how many seconds both are kept; then of each entry its
# field, its value, its text, how many amounts it has, and these, each with its name. Returns how many were counted.
_COUNT: Final = f"""
local mark, counted, at = ARGV[2], 0, 4
while at <= #ARGV do
  local field, value, text, amounts = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local was = redis.call('HGET', KEYS[1], field)
  local due = not was
  if ARGV[1] == '{_OLDER}' then due = was and string.sub(was, 1, #mark) ~= mark end
  if due then
    counted = counted + 1
    redis.call('HSET', KEYS[1], field, value)
    redis.call('HINCRBY', KEYS[2], '{_ENTRIES}', 1)
    for amount = at + 4, at + 2 + 2 * amounts, 2 do
      redis.call('HINCRBY', KEYS[2], ARGV[amount], ARGV[amount + 1])
    end
    local first = text ~= '' and redis.call('HGET', KEYS[2], '{_FIRST}')
    if text ~= '' and (not first or field < first) then
      redis.call('HSET', KEYS[2], '{_FIRST}', field, '{_TEXT}', text)
    end
  end
  at = at + 4 + 2 * amounts
end
if ARGV[1] == '{_NEW}' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[2], left) end
return counted
"""
# One step: between two, an entry may be written, which would look like one that is not counted.
_READ: Final = "return {redis.call('HLEN', KEYS[1]), redis.call('HGETALL', KEYS[2])}"


@dataclass(frozen=True)
class Entry:
    """An entry of a hash, what it adds to each sum, and a text: the sums keep that of the first field, by its bytes."""

    field: str
    value: str
    amounts: Mapping[str, int]
    text: str = ""


@dataclass(frozen=True)
class Sums:
    """The sums over a hash of so many entries, of which so many are counted, and the text of the first that has one."""

    entries: int
    counted: int
    amounts: Mapping[str, int]
    text: str

    @property
    def are_whole(self) -> bool:
        """Whether each entry is counted."""
        return self.counted >= self.entries

    @classmethod
    def of(cls, answer: Any) -> "Sums":
        """Return the sums that the server answered with, see `RunningSums.ask`."""
        entries, words = answer
        found = {name.decode(): value for name, value in zip(words[::2], words[1::2], strict=True)}
        text, _ = found.pop(_TEXT, b"").decode(), found.pop(_FIRST, b"")
        return cls(int(entries), int(found.pop(_ENTRIES, 0)), {name: int(value) for name, value in found.items()}, text)


class RunningSums:
    """Keeps sums over hashes of one kind, each for a week, say, after its last entry or since it was renewed.

    Args:
        client: The index.
        mark: How the value of an entry that is counted begins.
        read: Makes the entry, with its mark, of a field and a value of an older version.
        kept_s: For how many seconds a hash and its sums are kept after an entry is added.
    """

    def __init__(self, client: Client, *, mark: str, read: Callable[[str, bytes], Entry], kept_s: int) -> None:
        self._redis, self._mark, self._read, self._kept_s = client, mark, read, kept_s

    def add(self, client: Client, key: str, entry: Entry) -> Any:
        """Add an entry to a hash unless it has its field; returns 1 if it had not. `client` may be a pipeline."""
        return self._count(client, key, _NEW, [entry])

    def ask(self, client: Client, key: str) -> Any:
        """Ask for the sums of a hash by a client or a pipeline; `Sums.of` reads the answer."""
        return client.eval(_READ, 2, key, sums_key(key))

    def count_older(self, key: str) -> None:
        """Count the entries of a hash that are of a version that kept no sums."""
        for piece in hash_pieces(self._redis, key):
            older = [
                self._read(field.decode(), value)
                for field, value in piece.items()
                if not value.startswith(self._mark.encode())
            ]
            if older:
                with guarded():
                    self._count(self._redis, key, _OLDER, older)

    def renew(self, pipeline: Client, key: str) -> None:
        """Keep a hash and its sums as long as if an entry was added just now."""
        for kept in (key, sums_key(key)):
            pipeline.expire(kept, self._kept_s)

    def forget(self, pipeline: Client, key: str) -> None:
        """Delete a hash and its sums, in one step."""
        pipeline.unlink(key, sums_key(key))

    def _count(self, client: Client, key: str, which: str, entries: list[Entry]) -> Any:
        words: list[str | int] = []
        for entry in entries:
            amounts = [word for name, amount in entry.amounts.items() if amount for word in (name, amount)]
            words += [entry.field, entry.value, entry.text, len(amounts) // 2, *amounts]
        return client.eval(_COUNT, 2, key, sums_key(key), which, self._mark, self._kept_s, *words)


def sums_key(key: str) -> str:
    """Return the key of the sums of a hash; by the braces, a cluster has it on the server of the hash."""
    return f"job:{{{key}}}:sums"
