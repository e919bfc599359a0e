"""What `artseek ingest` finds in folders, how it labels it, and which files it will not read."""

import os
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from services.producer.ingest import Summary, reader
from services.producer.sidecars import Sidecars
from shared.errors import Invalid
from shared.folders import Source, walk
from shared.passed_over import PassedOver
from shared.records.record_store import RecordStore
from shared.state import Job, Rejection
from shared.state.outcomes import Counts, Outcome
from shared.storage.large_objects import LARGE

JPEG = b"\xff\xd8\xff"  # the first bytes of one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files at every depth, hidden ones, and links."""
    for name in ("loose.jpg", "b/2.jpg", "b/10.jpg", "a/deep/er/1.png", "a/.hidden.jpg", ".git/x.jpg", "c/readme"):
        path = tmp_path / "art" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "art" / "empty").mkdir()
    return tmp_path / "art"


def names(sources: list[Source]) -> list[str]:
    return [source.name for source in sources]


def test_files_come_in_the_order_of_their_names_and_hidden_ones_do_not(folder: Path) -> None:
    found = list(walk([folder], labels_from_folders=False))
    assert names(found) == ["a/deep/er/1.png", "b/10.jpg", "b/2.jpg", "c/readme", "loose.jpg"]
    assert all(source.path == folder / source.name for source in found)
    assert {source.label for source in found} == {None}


def test_a_label_is_the_first_folder_within_the_path(folder: Path) -> None:
    labels = {source.name: source.label for source in walk([folder], labels_from_folders=True)}
    assert labels == {"a/deep/er/1.png": "a", "b/10.jpg": "b", "b/2.jpg": "b", "c/readme": "c", "loose.jpg": None}


def test_a_file_named_alone_has_the_label_of_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = walk([folder / "b" / "2.jpg"], labels_from_folders=True)
    assert (found.name, found.label) == ("2.jpg", "b")
    monkeypatch.chdir(folder / "b")
    (found,) = walk([Path("2.jpg")], labels_from_folders=True)
    assert (found.name, found.label) == ("2.jpg", "b")


def test_several_paths_come_one_after_another(folder: Path) -> None:
    assert names(list(walk([folder / "c", folder / "b"], labels_from_folders=False))) == ["readme", "10.jpg", "2.jpg"]


def test_a_folder_that_is_named_is_walked_though_it_is_hidden(folder: Path) -> None:
    assert names(list(walk([folder / ".git"], labels_from_folders=False))) == ["x.jpg"]


def test_a_link_is_the_file_by_its_own_name_and_label(folder: Path) -> None:
    (folder / "c" / "link.jpg").symlink_to(folder / "b" / "2.jpg")
    found = {source.name: source.label for source in walk([folder], labels_from_folders=True)}
    assert (found["c/link.jpg"], found["b/2.jpg"]) == ("c", "b")
    (alone,) = walk([folder / "c" / "link.jpg"], labels_from_folders=True)
    assert (alone.name, alone.label) == ("link.jpg", "c")


def test_links_to_folders_are_followed_once_and_never_back_up(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "disk" / "more"
    outside.mkdir(parents=True)
    (outside / "3.jpg").write_bytes(JPEG)
    (outside / "up").symlink_to(folder)  # would go round for ever
    (folder / "c" / "again").symlink_to(folder)
    (folder / "linked").symlink_to(outside)
    (folder / "linked too").symlink_to(outside)
    passed = PassedOver()
    found = {source.name: source.label for source in walk([folder], labels_from_folders=True, passed_over=passed)}
    assert len(found) == 6
    assert found["linked/3.jpg"] == "linked"
    assert passed.by_kind["link"] == ["c/again", "linked/up", "linked too"]
    assert names(list(walk([folder / "linked"], labels_from_folders=False)))[0] == "3.jpg"


def test_what_is_no_image_is_passed_over_and_counted(tmp_path: Path) -> None:
    taken = [
        "Künste/1.jpg",
        "...And Justice.jpg",
        "..odd/a.jpg",
        "😀.jpg",
        "a\nb.jpg",
        "\u202egpj.exe",
        "n" * 251 + ".jpg",
    ]
    junk = {
        "@eaDir": ["@eaDir/1.jpg/thumb.jpg", "a/@eaDir/2.jpg"],
        "#recycle": ["#recycle/old.jpg"],
        "lost+found": ["lost+found/#123"],
        "__MACOSX": ["__MACOSX/._1.jpg"],
        "Thumbs.db": ["a/thumbs.db", "b/Thumbs.db"],
        "desktop.ini": ["Desktop.ini"],
        ".DS_Store": [".DS_Store"],
        "._*": ["._1.jpg"],
        "sidecar": ["1.xmp", "1.jpg.XMP", "1.AAE"],
        "video": ["1.MOV", "clip.mp4"],
        "unfinished": ["2.jpg.part"],
        "hidden": [".hidden.jpg", ".git/objects/1.jpg"],
    }
    for name in (*taken, *(name for named in junk.values() for name in named)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(JPEG)
    passed = PassedOver()
    assert set(names(list(walk([tmp_path], labels_from_folders=False, passed_over=passed)))) == set(taken)
    assert {kind: sorted(found) for kind, found in passed.by_kind.items()} == {
        kind: sorted(named) for kind, named in junk.items()
    }
    assert passed.counts["@eaDir"] == 2
    assert names(list(walk([tmp_path / "clip.mp4"], labels_from_folders=False))) == ["clip.mp4"]


def test_composed_and_decomposed_umlauts_are_one_name_and_one_class(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "Künste")).mkdir()
        (tmp_path / unicodedata.normalize(form, "Künste") / f"{form}ä.jpg").write_bytes(JPEG)
    (tmp_path / "ä.jpg").write_bytes(JPEG)
    (tmp_path / "a\u0308.jpg").write_bytes(JPEG)
    found = {source.name: source.label for source in walk([tmp_path], labels_from_folders=True)}
    assert found == {"Künste/NFDä.jpg": "Künste", "Künste/NFCä.jpg": "Künste", "ä.jpg": None, "ä (2).jpg": None}


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nowhere"):
        list(walk([tmp_path / "nowhere"], labels_from_folders=False))


def test_a_name_that_is_no_utf_8_is_made_so_and_the_file_is_read(tmp_path: Path) -> None:
    """Archives of old have names in Latin-1; a segment and JSON hold text only."""
    folder = os.fsencode(tmp_path) + b"/k\xfcnste"
    os.mkdir(folder)  # noqa: PTH102 -- a name of bytes
    Path(os.fsdecode(folder + b"/\xe4.jpg")).write_bytes(JPEG)
    (found,) = walk([tmp_path], labels_from_folders=True)
    assert (found.name, found.label) == ("k\ufffdnste/\ufffd.jpg", "k\ufffdnste")
    assert reader(found, max_bytes=1000)() == JPEG
    (found,) = walk([found.path], labels_from_folders=True)
    assert (found.name, found.label) == ("\ufffd.jpg", "k\ufffdnste")
    lost = Rejection(found.name, "empty", "why")
    job = Job("j", "ingest", "art", 0.0, True, 1, 1, 1, Counts(rejected={"empty": 1}))  # noqa: FBT003
    (rejected,) = Summary(job, Outcome(rejected=(lost,)), {found.name: found.path}, 1.0).to_json()["rejected"]
    assert rejected["file"].encode().endswith("k\ufffdnste/\ufffd.jpg".encode())


def read(path: Path, *, max_bytes: int = 1000) -> bytes | Rejection:
    return reader(Source(path, path.name, None), max_bytes=max_bytes)()


def code(path: Path, *, max_bytes: int = 1000) -> str:
    refused = read(path, max_bytes=max_bytes)
    assert isinstance(refused, Rejection)
    assert refused.name == path.name
    assert refused.reason
    return refused.code


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG + b"x" * 997)
    assert read(path) == JPEG + b"x" * 997
    assert code(path, max_bytes=999) == "too-large"


def test_what_is_no_image_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<!doctype html>")
    (tmp_path / "clip.jpg").write_bytes(b"\0\0\0\x18ftypmp42")
    assert code(tmp_path / "page.jpg") == code(tmp_path / "clip.jpg") == "not-an-image"
    large = tmp_path / "noise.jpg"
    with large.open("wb") as file:
        file.truncate(LARGE)
    assert code(large, max_bytes=LARGE) == "not-an-image"


def test_what_cannot_be_read_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert code(tmp_path / "empty.jpg") == "empty"
    assert code(tmp_path / "pipe.jpg") == "not-a-file"
    assert code(tmp_path / "dangling.jpg") == "unreadable"
    assert code(tmp_path / "loop.jpg") == "unreadable"
    assert code(tmp_path / "gone-since.jpg") == "unreadable"


# What makes a walk fail


@contextmanager
def nested(folder: Path, name: str, depth: int) -> Iterator[None]:
    """Make folders in folders with a file at the bottom, however long its path is; pytest could not remove them."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            Path(name).mkdir()
            os.chdir(name)
        Path("bottom.jpg").write_bytes(JPEG)
        os.chdir(before)
        yield
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", str(folder / name)], check=True)  # noqa: S607


def test_folders_in_folders_are_walked_however_deep(tmp_path: Path) -> None:
    with nested(tmp_path, "d", 1200):
        (bottom,) = walk([tmp_path], labels_from_folders=True)
        assert (bottom.name, bottom.label) == ("d/" * 1200 + "bottom.jpg", "d")
        assert reader(bottom, max_bytes=1000)() == JPEG


def test_a_folder_that_cannot_be_read_is_listed_and_the_rest_is_taken(tmp_path: Path) -> None:
    """Its path is longer than the operating system takes, which holds for root too."""
    for name in ("a.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(b"data")
    with nested(tmp_path, "m" * 200, 25):
        with pytest.raises(OSError, match="too long"):
            list(walk([tmp_path], labels_from_folders=False))
        first, deep, last = walk([tmp_path], labels_from_folders=True, list_unreadable=True)
    assert [(first.name, first.problem), (last.name, last.problem)] == [("a.jpg", None), ("z.jpg", None)]
    assert deep.name == deep.path.relative_to(tmp_path).as_posix() + "/"
    refused = reader(deep, max_bytes=1000)()
    assert isinstance(refused, Rejection)
    assert (refused.name, refused.code) == (deep.name, "unreadable-folder")
    assert "too long" in refused.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_the_right_to_read_it_is_listed_and_the_rest_is_taken(folder: Path) -> None:
    (folder / "b").chmod(0)
    try:
        found = list(walk([folder], labels_from_folders=True, list_unreadable=True))
    finally:
        (folder / "b").chmod(0o700)
    assert names(found) == ["a/deep/er/1.png", "b/", "c/readme", "loose.jpg"]
    assert [source.path for source in found if source.problem] == [folder / "b"]


def test_files_of_two_paths_with_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for path in ("card1/DCIM/1.jpg", "card2/DCIM/1.jpg", "more/card2/DCIM/1.jpg", "card2/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    roots = [tmp_path / "card1", tmp_path / "card2", tmp_path / "more" / "card2", tmp_path / "card1" / "DCIM" / "1.jpg"]
    found = list(walk(roots, labels_from_folders=False))
    assert names(found) == ["DCIM/1.jpg", "card2/DCIM/1.jpg", "x", "DCIM/1 (2).jpg", "1.jpg"]
    lost = tuple(Rejection(source.name, "truncated", "why") for source in found)
    job = Job("j", "ingest", "art", 0.0, True, 1, 1, 1, Counts(rejected={"truncated": len(lost)}))  # noqa: FBT003
    rejected = Summary(job, Outcome(rejected=lost), {source.name: source.path for source in found}, 1.0).to_json()[
        "rejected"
    ]
    assert [Path(rejection["file"]) for rejection in rejected] == [source.path for source in found]


def test_two_names_that_are_no_utf_8_and_read_the_same_are_told_apart(tmp_path: Path) -> None:
    for byte in (b"\xe4", b"\xf6"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + byte + b".jpg")).write_bytes(byte)
    assert names(list(walk([tmp_path], labels_from_folders=False))) == ["\ufffd.jpg", "\ufffd (2).jpg"]


def test_a_name_that_is_as_long_as_may_be_has_no_sidecar_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".jpg")
    path.write_bytes(JPEG)
    source = Source(path, path.name, None)
    read = Sidecars(RecordStore(cast("Any", None)), "art").reading(source, reader(source, max_bytes=1000))
    assert read() == JPEG
