"""The repository: what is written is read, what is damaged is named, and who cleans is alone."""

import gzip
import hashlib
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from shared.backup import leases, target_of
from shared.backup.checking import check_repository
from shared.backup.cleaning import Cleaned, keep_latest
from shared.backup.folder_target import FolderTarget
from shared.backup.leases import LeaseLost
from shared.backup.repository import MARK, Damaged, Repository, spool
from shared.backup.snapshot import Entry, Header, Snapshot
from shared.backup.target import Target
from shared.errors import Invalid, Locked, NotFound, TooNew
from shared.settings import Settings

HEADER = Header(created="2024-05-01T12:00:00.000Z", artseek="1", source="here", settings={"ARTSEEK_MODEL": "lite"})


def entry(data: bytes, key: str = "images/x") -> Entry:
    return Entry(key, hashlib.sha256(data).hexdigest(), len(data))


def add(repository: Repository, *blobs: bytes) -> str:
    """Write blobs and a snapshot that names them."""
    for data in blobs:
        with spool([data]).file as file:
            repository.put_blob(entry(data).digest, file, len(data))
    return repository.write_snapshot(
        Snapshot(HEADER, tuple(entry(data, f"images/{place}") for place, data in enumerate(blobs)))
    )


def replace(target: Target, name: str, data: bytes) -> None:
    target.write(name, io.BytesIO(data), len(data))


def test_what_is_written_is_read(target: Target) -> None:
    repository = Repository.create(target)
    data = b"x" * 3_000_000
    name = add(repository, data, b"")
    again = Repository.open(target)
    snapshot = again.read_snapshot(name)
    assert snapshot.header == HEADER
    assert [b"".join(again.read_blob(found)) for found in snapshot.objects] == [data, b""]
    assert again.blobs() == {entry(data).digest: len(data), entry(b"").digest: 0}
    assert again.find(None) == again.find(name[:8]) == name
    check = check_repository(again)
    assert (check.ok, check.snapshots, check.blobs, check.bytes, check.unused) == (True, (name,), 2, len(data), 0)


def test_snapshots_sort_by_when_they_were_written(target: Target) -> None:
    repository = Repository.create(target)
    names = [add(repository, b"%d" % number) for number in range(4)]
    assert repository.snapshots() == names
    with pytest.raises(NotFound, match="4 snapshots that '2'"):
        repository.find("2")
    with pytest.raises(NotFound, match="no snapshot that 'x'"):
        repository.find("x")


def test_a_place_without_backups_is_none_and_one_with_other_files_is_not_made_one(target: Target) -> None:
    with pytest.raises(NotFound, match="holds no backups"):
        Repository.open(target)
    replace(target, "holiday/photo.jpg", b"photo")
    with pytest.raises(Invalid, match="is not empty"):
        Repository.create(target)
    assert [file.name for file in target.list("")] == ["holiday/photo.jpg"]


def test_a_repository_of_a_newer_version_is_refused_by_name(target: Target) -> None:
    Repository.create(target)
    replace(target, MARK, b'{"format": 2}')
    with pytest.raises(TooNew, match="format 2"):
        Repository.create(target)


@pytest.mark.parametrize("damage", [b"", b"xyz", b"abcd", None], ids=["empty", "other", "longer", "missing"])
def test_a_damaged_blob_is_found_and_named(target: Target, damage: bytes | None) -> None:
    repository = Repository.create(target)
    first, second = add(repository, b"abc"), add(repository, b"abc", b"def")
    third = add(repository, b"def")
    digest = entry(b"abc").digest
    file = f"blobs/{digest[:2]}/{digest}"
    if damage is None:
        target.delete([file])
    else:
        replace(target, file, damage)
    with pytest.raises(Damaged, match=digest):
        list(repository.read_blob(entry(b"abc")))
    check = check_repository(repository)
    assert (check.ok, check.snapshots) == (False, (third,))
    (found,) = check.damaged
    assert (found.digest, found.key, found.snapshots) == (digest, "images/0", (first, second))


def test_a_damaged_snapshot_is_found_and_named(target: Target) -> None:
    repository = Repository.create(target)
    name, whole = add(repository, b"a"), add(repository, b"b")
    (file,) = [file.name for file in target.list("snapshots") if name in file.name]
    replace(target, file, b"".join(target.read(file))[:-9])
    with pytest.raises(Damaged, match=name):
        repository.read_snapshot(name)
    check = check_repository(repository)
    assert (check.ok, check.snapshots, list(check.unreadable)) == (False, (whole,), [name])


def forged(*lines: Any) -> bytes:
    head = {**vars(HEADER), "format": 1, "entries": len(lines)}
    return gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in [head, *lines]))


@pytest.mark.parametrize(
    "line",
    [
        ["object", "../escape", "a" * 64, 1, ""],
        ["object", "/etc/passwd", "a" * 64, 1, ""],
        ["object", "images/../../x", "a" * 64, 1, ""],
        ["object", "images//x", "a" * 64, 1, ""],
        ["object", "images/x\n", "a" * 64, 1, ""],
        ["object", "images/" + "x" * 2000, "a" * 64, 1, ""],
        ["object", "images/x", "../../x", 1, ""],
        ["object", "images/x", "a" * 64, -1, ""],
        ["object", "images/x", "a" * 64, 2**60, ""],
        ["object", "images/x", "a" * 64, True, ""],
        ["object", ["images/x"], "a" * 64, 1, ""],
        ["model", "../x/1/saved_model.pb", "a" * 64, 1],
        ["model", "lite/1/../../../x", "a" * 64, 1],
        ["model", "lite/0x/saved_model.pb", "a" * 64, 1],
        ["model", "saved_model.pb", "a" * 64, 1],
        ["file", "images/x", "a" * 64, 1],
        {"object": 1},
        7,
    ],
)
def test_a_snapshot_that_names_what_none_may_is_refused(line: Any) -> None:
    with pytest.raises(Invalid, match="damaged or forged"):
        Snapshot.read(io.BytesIO(forged(line)), "s")


def test_a_snapshot_that_ends_early_names_a_key_twice_or_is_newer_is_refused() -> None:
    line = ["object", "images/x", "a" * 64, 1, ""]
    with pytest.raises(Invalid, match="twice"):
        Snapshot.read(io.BytesIO(forged(line, line)), "s")
    with pytest.raises(Invalid, match="damaged"):
        Snapshot.read(io.BytesIO(forged(line)[:-20]), "s")
    newer = gzip.compress(b'{"format": 2}\n')
    with pytest.raises(TooNew, match="format 2"):
        Snapshot.read(io.BytesIO(newer), "s")


def test_old_snapshots_are_dropped_with_what_only_they_name(target: Target) -> None:
    repository = Repository.create(target)
    first, second = add(repository, b"old", b"both"), add(repository, b"both", b"mid")
    third = add(repository, b"both", b"new")
    replace(target, f"blobs/{'0' * 2}/{'0' * 64}", b"left by a run that died")
    assert keep_latest(repository, 2) == Cleaned((first,), 2, 26)
    assert repository.snapshots() == [second, third]
    assert repository.blobs().keys() == {entry(data).digest for data in (b"both", b"mid", b"new")}
    assert check_repository(repository).ok
    assert keep_latest(repository, 2) == Cleaned()
    assert [file.name for file in target.list("leases")] == []


def test_nothing_is_dropped_while_a_snapshot_that_stays_cannot_be_read(target: Target) -> None:
    repository = Repository.create(target)
    names = [add(repository, b"%d" % number) for number in range(3)]
    replace(target, f"snapshots/{names[2]}.jsonl.gz", b"damaged")
    with pytest.raises(Damaged, match=names[2]):
        keep_latest(repository, 2)
    assert (repository.snapshots(), len(repository.blobs())) == (names, 3)


def test_who_cleans_is_alone(target: Target) -> None:
    repository = Repository.create(target)
    with repository.lease("use"), repository.lease("use"), pytest.raises(Locked, match="works in"):
        keep_latest(repository, 1)
    with repository.lease("cleaning"), pytest.raises(Locked, match="removes old backups"), repository.lease("use"):
        pass
    assert keep_latest(repository, 1) == Cleaned()


def test_the_lease_of_a_process_that_died_runs_out_by_the_clock_of_the_target(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository.create(target)
    replace(target, "leases/use-dead", b"{}")
    with pytest.raises(Locked):
        keep_latest(repository, 1)
    (dead,) = target.list("leases")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of this machine counts for nothing
    monkeypatch.setattr(leases, "LEASE_S", -1e9)
    keep_latest(repository, 1)
    assert dead.name not in [file.name for file in target.list("leases")]


def test_a_process_that_was_held_up_for_long_removes_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.create(target)
    names = [add(repository, b"%d" % number) for number in range(2)]
    now = leases._clock()
    ticks = iter([now, now, now, now + 500])  # it is stopped after it has taken its lease
    monkeypatch.setattr(leases, "_clock", lambda: next(ticks))
    with pytest.raises(LeaseLost):
        keep_latest(repository, 1)
    assert repository.snapshots() == names


def test_a_folder_holds_no_half_written_files(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "backup")
    with pytest.raises(Invalid, match="ended 1 bytes before"):
        target.write("blobs/a", io.BytesIO(b"abc"), 4)
    assert list(target.list("")) == []
    target.write("blobs/a", io.BytesIO(b"abc"), 3)
    assert [(file.name, file.size) for file in target.list("")] == [("blobs/a", 3)]
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "backup" / "blobs" / "a").stat().st_mode & 0o777 == 0o600


def test_a_target_is_a_folder_or_s3_and_never_a_part_of_the_system(settings: Settings, tmp_path: Path) -> None:
    assert str(target_of(str(tmp_path / "x"), settings)) == str(tmp_path / "x")
    assert str(target_of("s3://backups/x", settings)) == "s3://backups/x"
    for wrong, reason in (
        ("ftp://x", "neither a folder nor s3://"),
        ("s3://", "names no bucket"),
        (f"s3://{settings.s3_bucket}/x", "the bucket of the system itself"),
        (str(settings.data / "backup"), "a folder of the system itself"),
        (str(settings.models), "a folder of the system itself"),
    ):
        with pytest.raises(Invalid, match=reason):
            target_of(wrong, settings)
    unknown = settings.model_copy(update={"backup_s3_endpoint": ""})
    with pytest.raises(Invalid, match="ARTSEEK_BACKUP_S3_ENDPOINT"):
        target_of("s3://backups/x", unknown)
