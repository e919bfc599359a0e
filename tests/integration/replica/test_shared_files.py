"""Several processes keep a replica in one folder: each segment is fetched once, and all map the same file."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.query.replica.replica import Replica
from shared.storage.catalog import Catalog, EmbeddingSet
from tests.support import rows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.paths import ROOT
from tests.support.replicas import DIM, OpenReplica, WatchedStore, assert_holds, files_in, merge, put

_HOLDER = """
import sys, time
from pathlib import Path
from services.query.replica.segment_files import locked_part
with locked_part(Path(sys.argv[1])) as part:
    part.write_bytes(b"half of it")
    print("held", flush=True)
    time.sleep(3600)
"""


def inodes(replica: Replica) -> set[int]:
    return {mapped.inode for mapped in replica.view.mapped_segments}


def test_each_segment_is_fetched_by_one_and_mapped_by_all(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, make_replica: OpenReplica
) -> None:
    for number in range(24):
        put(catalog, art, f"s{number:02}", [number])
    replicas = [make_replica() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Replica.synchronise, replicas))
    assert sorted(watched.read) == [f"s{number:02}" for number in range(24)]
    for replica in replicas:
        assert_holds(replica, range(24))
        assert inodes(replica) == inodes(replicas[0])
    assert not [path for path in files_in(tmp_path) if path.suffix != ".arrow"]

    merge(catalog, art, "merged-1", [f"s{number:02}" for number in range(20)])
    for replica in replicas:
        replica.synchronise()
        assert_holds(replica, range(24))
        assert inodes(replica) == inodes(replicas[0])
    assert watched.read.count("merged-1") == 1


def test_a_process_that_starts_leaves_what_another_is_fetching(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, make_replica: OpenReplica
) -> None:
    for number in range(2):
        put(catalog, art, f"s{number}", [number])
    first, second = make_replica(), make_replica()
    starting = threading.Thread(target=second.synchronise)

    def start_another(key: str) -> None:
        if key.endswith("s1.arrow"):
            starting.start()
            # It has looked through the folder, and waits for what is being fetched.
            eventually(lambda: second._opened and any("s1.part" in path.name for path in files_in(tmp_path)))

    watched.before = start_another
    first.synchronise()
    starting.join(PATIENCE_S)
    assert sorted(watched.read) == ["s0", "s1"]
    for replica in (first, second):
        assert_holds(replica, range(2))
    assert inodes(first) == inodes(second)


def test_what_a_process_was_fetching_when_it_died_is_fetched_by_who_waited(
    catalog: Catalog, art: EmbeddingSet, tmp_path: Path, make_replica: OpenReplica
) -> None:
    put(catalog, art, "s0", [0])
    replica = make_replica()
    path = tmp_path / f"art-{art.tag}" / "s0.arrow"
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=replica.synchronise)
        waiting.start()
        eventually(lambda: replica._opened)
        assert replica.view.images == 0
        holder.kill()
        waiting.join(PATIENCE_S)
    finally:
        holder.kill()
        holder.communicate()
    assert_holds(replica, [0])
    assert [file.name for file in files_in(tmp_path)] == ["s0.arrow"]


def test_a_damaged_file_that_one_has_fetched_again_is_taken_by_the_others(
    catalog: Catalog, watched: WatchedStore, art: EmbeddingSet, tmp_path: Path, open_replica: OpenReplica
) -> None:
    put(catalog, art, "s0", [0, 10])
    open_replica()
    path = tmp_path / f"art-{art.tag}" / "s0.arrow"
    data = path.read_bytes()
    place = data.index(rows.embedding(10, DIM).tobytes())
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    watched.read.clear()
    replicas = [open_replica() for _ in range(2)]
    for replica in replicas:
        while replica.verify_some():
            pass
        assert_holds(replica, [0, 10])
    assert watched.read == ["s0"]
    assert inodes(replicas[0]) == inodes(replicas[1])
