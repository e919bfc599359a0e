"""What was purged is gone from the files of the local servers: append-only files and volumes of the object store."""

from pathlib import Path

from local.purge_follower import PurgeFollower
from shared.state import Client, State
from shared.storage.object_store import ObjectStore
from tests.support.eventually import eventually
from tests.support.servers import Servers

SECRET = b"the pixels of a portrait that nobody is to see again"
NAME = "zebrafinch portrait.jpg"
DIGEST = "52be0d1136edf092"


def holding(folder: Path, words: bytes) -> list[str]:
    """Return the files in a folder that hold some bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path.relative_to(folder.parent)) for path in files if words in path.read_bytes()]


def test_a_vacuum_leaves_nothing_of_what_was_deleted_in_the_store_s_files(
    servers: Servers, store: ObjectStore, redis: Client
) -> None:
    state = State.of(redis)
    follower = PurgeFollower(state, servers.vacuum, pauses_s=(0.0,))
    assert not follower.follow()  # nothing was purged
    store.ensure_bucket()
    store.put(f"images/{DIGEST}", SECRET)
    store.put("images/other", b"which stays")
    assert holding(servers.folder / "objects", SECRET)
    assert holding(servers.folder / "objects", DIGEST.encode()) == ["objects/filer.db"]
    store.delete([f"images/{DIGEST}"])

    def gone() -> bool:
        state.journal.note_purge()
        assert follower.follow()
        return not any(holding(servers.folder / "objects", words) for words in (SECRET, DIGEST.encode()))

    eventually(gone, trying=FileNotFoundError)
    assert store.get("images/other") == b"which stays"
    assert not follower.follow()


def test_a_rewritten_append_only_file_does_not_remember_what_was_deleted(servers: Servers, redis: Client) -> None:
    redis.hset("job:1", "name", NAME)
    redis.delete("job:1")
    assert holding(servers.folder / "valkey-index", NAME.encode())
    State.of(redis).journal.rewrite()
    eventually(lambda: not holding(servers.folder / "valkey-index", NAME.encode()), trying=FileNotFoundError)
