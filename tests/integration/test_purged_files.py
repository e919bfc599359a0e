"""What was purged is gone from the files of the local servers: append-only files and volumes of the object store."""

import copy
import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from local import object_store, purge_follower
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
    names = set(holding(servers.folder / "objects", DIGEST.encode()))
    assert names
    assert names <= {"objects/filer.db", "objects/filer.db-wal"}
    store.delete([f"images/{DIGEST}"])

    def held() -> list[str]:
        state.journal.note_purge()
        assert follower.follow()
        return [file for words in (SECRET, DIGEST.encode()) for file in holding(servers.folder / "objects", words)]

    eventually(held, until=lambda files: not files, trying=FileNotFoundError)
    assert store.get("images/other") == b"which stays"
    assert not follower.follow()


def test_names_leave_no_copies_where_pages_were_split(servers: Servers, store: ObjectStore) -> None:
    names = [hashlib.sha256(number.to_bytes(2)).hexdigest()[:16] for number in range(300)]
    store.ensure_bucket()
    for name in names:
        store.put(f"images/{name}", b"x")
    gone = set(random.Random(1).sample(names, 210))
    store.delete([f"images/{name}" for name in sorted(gone)])
    servers.vacuum.run()
    file = servers.folder / "objects" / "filer.db"
    content = file.read_bytes()
    assert [name for name in names if name.encode() in content] == [name for name in names if name not in gone]
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA freelist_count").fetchone() == (0,)  # written anew: it has no free page
    assert store.get(f"images/{next(name for name in names if name not in gone)}") == b"x"


def test_a_log_that_cannot_be_emptied_is_emptied_later(
    servers: Servers, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_BUSY_S", 0.1)
    store.ensure_bucket()
    store.put("images/one", b"x")
    file = servers.folder / "objects" / "filer.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM sqlite_master").fetchone() > (0,)  # it sees what is there now
        with pytest.raises(OSError, match="in use"):
            servers.vacuum.run()
    servers.vacuum.run()
    assert file.with_name("filer.db-wal").read_bytes() == b""
    assert store.get("images/one") == b"x"


def test_a_damaged_file_of_names_is_told_and_what_was_purged_is_vacuumed_once_it_is_whole(
    servers: Servers,
    redis: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(purge_follower, "_TICK_S", 0.01)
    (tmp_path / "certificates").symlink_to(servers.folder / "certificates")
    file = tmp_path / "objects" / "filer.db"
    file.parent.mkdir()
    file.write_bytes(random.Random(1).randbytes(10_000))
    vacuum = copy.copy(servers.vacuum)
    vacuum._folder = tmp_path
    state = State.of(redis)
    state.journal.note_purge()
    follower = PurgeFollower(state, vacuum, pauses_s=(0.0,))
    follower.start()
    try:
        said = eventually(lambda: [line for line in caplog.messages if str(file) in line])
        assert "it is damaged: restore a backup" in said[0]
        assert state.journal.unvacuumed() is not None
        file.unlink()
        with closing(sqlite3.connect(file)) as whole:
            whole.execute("CREATE TABLE names (name)")
        eventually(lambda: state.journal.unvacuumed() is None)
    finally:
        follower.stop()


def test_a_rewritten_append_only_file_does_not_remember_what_was_deleted(servers: Servers, redis: Client) -> None:
    redis.hset("job:1", "name", NAME)
    redis.delete("job:1")
    assert holding(servers.folder / "valkey-index", NAME.encode())
    State.of(redis).journal.rewrite()
    eventually(lambda: not holding(servers.folder / "valkey-index", NAME.encode()), trying=FileNotFoundError)
