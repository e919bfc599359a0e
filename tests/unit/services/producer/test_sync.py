"""Bringing a collection in step with a folder: the counts of each outcome, held in memory beside a plain collection."""

import os
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.producer.ingest import IngestAnswer, RejectedFile
from services.producer.sync.digest_cache import DigestCache
from services.producer.sync.plan import Notes, StoredImage
from services.producer.sync.run import SyncAnswer, SyncOptions, SyncOutcome, Vanished, sync, sync_answer
from services.producer.sync.scan import FoundFile, ScanOptions, scan
from shared.errors import ArtseekError, Invalid
from shared.file_names import sent_name
from shared.folders import Source
from shared.records.paths import KnownPath
from shared.storage.layout import digest_of, digest_of_file, image_id

JPEG = b"\xff\xd8\xff"
SCAN = ScanOptions(max_bytes=1000, judge="this version", labels_from_folders=True)
OPTIONS = SyncOptions(SCAN, allow_vanished=50)
COUNTS = ("new", "changed", "moved", "vanished", "unchanged", "skipped", "rejected", "embedded")


class Stopped(Exception):
    """The command was killed."""


@dataclass
class Collection:
    """A collection in memory; files whose content has `bad` in it are refused. It may stop before any step.

    Somebody cancels an ingest after so many files.
    """

    held: dict[str, StoredImage] = field(default_factory=dict)
    embedded: list[str] = field(default_factory=list)
    trashed: list[int] = field(default_factory=list)
    relinked: list[str] = field(default_factory=list)
    steps: int = 0
    steps_left: int = 10**9
    cancelled_after: int = 10**9

    def images(self) -> list[StoredImage]:
        return list(self.held.values())

    def _step(self) -> None:
        if not self.steps_left:
            raise Stopped
        self.steps, self.steps_left = self.steps + 1, self.steps_left - 1

    def note(self, notes: Notes) -> None:
        self._step()
        for digest, paths in notes.paths.items():
            if (image := self.held.get(digest)) is None:
                continue  # it is in the trash
            known = {(one.source, one.path): one for one in (*image.paths, *paths)}
            self.held[digest] = replace(image, paths=tuple(known.values()))
        for digest, labels in notes.labels.items():
            self.held[digest] = replace(self.held[digest], labels=tuple(labels))

    def add(self, sources: Sequence[Source]) -> IngestAnswer:
        rejected: list[RejectedFile] = []
        added = 0
        for source in sources[: self.cancelled_after]:
            self._step()
            data = source.path.read_bytes()
            if b"bad" in data:
                rejected.append(RejectedFile(file=str(source.path), name=source.name, code="corrupt", reason="why"))
                continue
            assert digest_of(data) not in self.held
            added += 1
            self.embedded.append(source.name)
            labels = (source.label,) if source.label else ()
            self.held[digest_of(data)] = StoredImage(
                image_id(digest_of(data)), digest_of(data), sent_name(source.name), labels, ()
            )
        state = "cancelled" if self.cancelled_after < len(sources) else "done"
        return {"job": "1", "state": state, "rejected": rejected, "added": added}  # type: ignore[typeddict-item]

    def relink(self, files: Sequence[FoundFile]) -> None:
        self._step()
        self.relinked += [file.source.name for file in files]

    def trash(self, image_ids: Sequence[int]) -> None:
        self._step()
        self.trashed += image_ids
        self.held = {digest: image for digest, image in self.held.items() if image.id not in image_ids}

    def labels(self, path: Path) -> tuple[str, ...]:
        return self.held[digest_of_file(path)].labels

    def paths(self) -> dict[str, str]:
        """The content of each path that is present."""
        return {
            path.path: digest for digest, image in self.held.items() for path in image.paths if path.state == "present"
        }


@dataclass
class Keeper:
    """Brings a collection in step with a folder."""

    folder: Path
    cache: DigestCache
    collection: Collection = field(default_factory=Collection)

    def write(self, name: str, content: str | None = None) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG + (content or name).encode())
        os.utime(path, ns=(1, path.stat().st_mtime_ns - 60_000_000_000))

    def sync(self, options: SyncOptions = OPTIONS) -> SyncAnswer:
        outcome: SyncOutcome = sync(self.folder, self.collection, self.cache, options)
        return sync_answer(self.folder, "art", outcome, dry_run=options.dry_run, seconds=1.0)

    def counts(self, options: SyncOptions = OPTIONS) -> dict[str, int]:
        answer = self.sync(options)
        assert all(len(answer["files"][name]) == answer[name] for name in COUNTS)  # type: ignore[literal-required]
        return {name: answer[name] for name in COUNTS if answer[name]}  # type: ignore[literal-required]

    def rename(self, before: str, after: str) -> None:
        (self.folder / after).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / before).rename(self.folder / after)


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    made = Keeper(tmp_path / "photos", DigestCache(tmp_path / "cache" / "files.sqlite"))
    for label in "ab":
        for number in range(6):
            made.write(f"{label}/{number}.jpg")
    made.write("loose.jpg")
    made.write("a/copy of 0.jpg", "a/0.jpg")
    made.write("a/broken.jpg", "bad")
    made.write("a/clip.mp4")
    (made.folder / "readme.txt").write_text("no image")
    return made


def test_a_second_time_does_nothing(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keeper.counts() == {"new": 14, "skipped": 1, "rejected": 2, "embedded": 13}
    before, steps = dict(keeper.collection.held), keeper.collection.steps
    monkeypatch.setattr("services.producer.sync.scan.digest_of_file", None)  # no file is read again
    assert keeper.counts() == {"unchanged": 14, "skipped": 1, "rejected": 2}
    assert (keeper.collection.held, keeper.collection.steps) == (before, steps)


def test_every_kind_of_change_is_counted_and_nothing_is_embedded_again(keeper: Keeper) -> None:
    keeper.sync()
    keeper.collection.embedded.clear()
    keeper.rename("a/1.jpg", "a/one.jpg")
    keeper.rename("a/2.jpg", "c/deep/2.jpg")
    keeper.rename("b", "d")
    keeper.write("a/3.jpg", "another content")
    keeper.write("a/4.jpg", "a/5.jpg")  # a copy of what is there
    keeper.write("e/9.jpg")
    keeper.write("e/0.jpg", "a/0.jpg")
    (keeper.folder / "loose.jpg").unlink()
    (keeper.folder / "a" / "copy of 0.jpg").unlink()
    answer = keeper.sync()
    assert answer["files"]["new"] == ["e/9.jpg"]
    assert answer["files"]["changed"] == ["a/3.jpg", "a/4.jpg"]
    assert answer["files"]["moved"] == [
        {"before": "a/1.jpg", "after": "a/one.jpg"},
        {"before": "a/2.jpg", "after": "c/deep/2.jpg"},
        *({"before": f"b/{number}.jpg", "after": f"d/{number}.jpg"} for number in range(6)),
        {"before": "a/copy of 0.jpg", "after": "e/0.jpg"},
    ]
    assert answer["files"]["vanished"] == ["loose.jpg"]
    assert answer["files"]["unchanged"] == ["a/0.jpg", "a/5.jpg"]
    assert sorted(keeper.collection.embedded) == ["a/3.jpg", "e/9.jpg"] == sorted(answer["files"]["embedded"])
    photos = keeper.folder
    assert keeper.collection.labels(photos / "c" / "deep" / "2.jpg") == ("c",)
    assert keeper.collection.labels(photos / "d" / "0.jpg") == ("d",)
    assert keeper.collection.labels(photos / "e" / "0.jpg") == ("a", "e")
    assert keeper.collection.paths() == {
        path.relative_to(photos).as_posix(): digest_of_file(path)
        for path in photos.rglob("*.jpg")
        if path.name != "broken.jpg"
    }
    assert keeper.counts() == {"unchanged": 14, "skipped": 1, "rejected": 2}


def test_what_has_vanished_is_marked_and_with_prune_goes_to_the_trash(keeper: Keeper) -> None:
    keeper.sync()
    gone = {digest_of_file(keeper.folder / name) for name in ("b/0.jpg", "b/1.jpg")}
    for name in ("b/0.jpg", "b/1.jpg", "a/0.jpg"):
        (keeper.folder / name).unlink()
    keeper.write("b/2.jpg", "instead")
    assert keeper.counts()["vanished"] == 3
    assert keeper.counts().get("vanished") is None
    assert len(keeper.collection.held) == 14
    assert keeper.collection.trashed == []
    answer = keeper.sync(replace(OPTIONS, prune=True, dry_run=True))
    assert (answer["trashed"], len(keeper.collection.held)) == (3, 14)
    assert keeper.sync(replace(OPTIONS, prune=True))["trashed"] == 3
    assert not gone & keeper.collection.held.keys()
    assert digest_of_file(keeper.folder / "a" / "copy of 0.jpg") in keeper.collection.held
    assert keeper.sync(replace(OPTIONS, prune=True))["trashed"] == 0


def test_what_was_uploaded_before_has_another_file_and_stays(keeper: Keeper) -> None:
    uploaded = digest_of_file(keeper.folder / "b" / "0.jpg")
    odd = "a\nb \u202egpj.jpg"  # a remote system knows it by a cleaned name
    keeper.write(odd)
    keeper.collection.held[uploaded] = StoredImage(image_id(uploaded), uploaded, "x.jpg", (), ())
    keeper.sync()
    for name in ("b/0.jpg", "b/1.jpg", odd):
        (keeper.folder / name).unlink()
    assert keeper.sync(replace(OPTIONS, prune=True, dry_run=True))["trashed"] == 2
    assert keeper.sync(replace(OPTIONS, prune=True))["trashed"] == 2
    assert uploaded in keeper.collection.held
    assert KnownPath(str(keeper.folder), "b/0.jpg", "vanished", "b") in keeper.collection.held[uploaded].paths


def test_a_cancelled_ingest_is_told_and_the_next_sync_adds_the_rest(keeper: Keeper) -> None:
    keeper.sync()
    (keeper.folder / "loose.jpg").unlink()
    for number in range(3):
        keeper.write(f"c/{number}.jpg")
    keeper.collection.cancelled_after = 1
    with pytest.raises(ArtseekError, match="was cancelled"):
        keeper.sync(replace(OPTIONS, prune=True))
    assert keeper.collection.trashed == []
    keeper.collection.cancelled_after = 10**9
    answer = keeper.sync(replace(OPTIONS, prune=True))
    assert (answer["embedded"], answer["trashed"]) == (2, 1)
    assert {f"c/{number}.jpg" for number in range(3)} <= keeper.collection.paths().keys()


def test_too_much_that_vanished_or_a_missing_folder_stops_before_anything_changes(keeper: Keeper) -> None:
    keeper.sync()
    keeper.write("new.jpg")
    steps = keeper.collection.steps
    for name in ("b/0.jpg", "b/1.jpg"):
        (keeper.folder / name).unlink()
    with pytest.raises(Vanished, match="2 of the 14 known files"):
        keeper.sync(SyncOptions(SCAN, prune=True))
    keeper.rename("", "../unplugged")
    with pytest.raises(Invalid, match="no folder"):
        keeper.sync()
    keeper.folder.mkdir()
    with pytest.raises(Vanished, match="100 %"):
        keeper.sync(SyncOptions(SCAN, allow_vanished=99))
    assert keeper.collection.steps == steps


def test_stopped_before_any_step_and_run_again_the_end_is_the_same(keeper: Keeper, tmp_path: Path) -> None:
    def change() -> None:
        keeper.rename("a/1.jpg", "c/1.jpg")
        keeper.write("a/2.jpg", "other")
        keeper.write("c/new.jpg")
        (keeper.folder / "b" / "5.jpg").unlink()

    keeper.sync()
    start = dict(keeper.collection.held)
    change()
    keeper.sync(replace(OPTIONS, prune=True))
    wanted, steps = keeper.collection, keeper.collection.steps
    for stop in range(steps):
        collection = Collection(dict(start), steps_left=stop)
        stopped = Keeper(keeper.folder, DigestCache(tmp_path / f"{stop}.sqlite"), collection)
        with suppress(Stopped):
            stopped.sync(replace(OPTIONS, prune=True))
        collection.steps_left = 10**9
        stopped.sync(replace(OPTIONS, prune=True))
        assert stopped.collection.paths() == wanted.paths()
        assert {digest: image.labels for digest, image in stopped.collection.held.items()} == {
            digest: image.labels for digest, image in wanted.held.items()
        }
        assert stopped.counts() == {"unchanged": 14, "skipped": 1, "rejected": 2}


def test_a_changed_file_that_is_refused_leaves_the_image_where_it_was(keeper: Keeper) -> None:
    keeper.sync()
    kept = digest_of_file(keeper.folder / "b" / "0.jpg")
    keeper.write("b/0.jpg", "bad now")
    assert keeper.sync(replace(OPTIONS, prune=True))["files"]["changed"] == []
    assert keeper.collection.paths()["b/0.jpg"] == kept
    steps = keeper.collection.steps
    assert keeper.counts(replace(OPTIONS, prune=True)) == {"unchanged": 13, "skipped": 1, "rejected": 3}
    assert keeper.collection.steps == steps


def test_files_that_grow_or_cannot_be_read_are_left_as_they_are(keeper: Keeper) -> None:
    keeper.sync()
    growing = keeper.folder / "growing.jpg"
    growing.write_bytes(JPEG)
    (keeper.folder / "b" / "0.jpg").unlink()
    (keeper.folder / "b" / "0.jpg").symlink_to("nowhere")

    def grow(_: float) -> None:
        with growing.open("ab") as file:
            file.write(b"more")

    found = scan(keeper.folder, keeper.cache, SCAN, pause=grow)
    assert found.skipped.by_kind["growing"] == ["growing.jpg"]
    assert "growing.jpg" not in {file.source.name for file in found.files}
    answer = keeper.sync()
    assert (answer["new"], answer["vanished"], answer["rejected"]) == (1, 0, 3)
    assert "b/0.jpg" in keeper.collection.paths()


def test_a_lost_or_broken_cache_is_made_anew_and_refused_files_are_tried_again_if_asked(
    keeper: Keeper, tmp_path: Path
) -> None:
    keeper.sync()
    keeper.cache.close()
    (tmp_path / "cache" / "files.sqlite").write_bytes(b"no database" * 1000)
    keeper.cache = DigestCache(tmp_path / "cache" / "files.sqlite")
    assert keeper.counts() == {"unchanged": 14, "skipped": 1, "rejected": 2}
    steps = keeper.collection.steps
    keeper.sync(replace(OPTIONS, scan=replace(SCAN, retry_rejected=True)))
    keeper.sync(replace(OPTIONS, scan=replace(SCAN, judge="a newer version")))
    assert keeper.collection.steps == steps + 2


def test_names_of_every_kind_are_kept_and_found_again(keeper: Keeper) -> None:
    names = [
        "😀.jpg",
        "a\nb.jpg",
        "\u202egpj.jpg",
        "n" * 251 + ".jpg",
        "...And/1.jpg",
        unicodedata.normalize("NFD", "ä.jpg"),
    ]
    for name in names:
        keeper.write(name)
    latin = Path(os.fsdecode(os.fsencode(keeper.folder) + b"/\xe4.jpg"))
    latin.write_bytes(JPEG + b"latin")
    keeper.sync()
    assert {unicodedata.normalize("NFC", name) for name in names} | {"\ufffd.jpg"} <= keeper.collection.paths().keys()
    assert keeper.counts() == {"unchanged": 21, "skipped": 1, "rejected": 2}


def test_another_folder_with_the_same_files_is_told_apart(keeper: Keeper, tmp_path: Path) -> None:
    keeper.sync()
    other = Keeper(tmp_path / "backup", keeper.cache, keeper.collection)
    other.write("a/0.jpg")
    other.write("z/only.jpg")
    assert other.counts() == {"new": 2, "embedded": 1}
    assert keeper.counts() == {"unchanged": 14, "skipped": 1, "rejected": 2}
    (other.folder / "a" / "0.jpg").unlink()
    assert other.sync(replace(OPTIONS, prune=True))["trashed"] == 0
    known = keeper.collection.held[digest_of_file(keeper.folder / "a" / "0.jpg")].paths
    assert KnownPath(str(other.folder), "a/0.jpg", "vanished", "a") in known


def test_the_pages_of_a_document_go_where_its_file_goes(keeper: Keeper) -> None:
    keeper.sync()
    document = digest_of_file(keeper.folder / "a" / "5.jpg")
    page = StoredImage(77, digest_of(b"page 2"), "a/5.jpg", ("a",), (), page_of=document)
    keeper.collection.held[page.digest] = page
    keeper.rename("a/5.jpg", "c/5.jpg")
    assert keeper.counts()["moved"] == 1
    assert {path.path: path.state for path in keeper.collection.held[page.digest].paths} == {
        "a/5.jpg": "gone",
        "c/5.jpg": "present",
    }
    assert keeper.collection.held[page.digest].labels == ("c",)
    assert keeper.counts() == {"unchanged": 14, "skipped": 1, "rejected": 2}
    (keeper.folder / "c" / "5.jpg").unlink()
    assert keeper.sync(replace(OPTIONS, prune=True))["trashed"] == 1  # which takes the pages along
