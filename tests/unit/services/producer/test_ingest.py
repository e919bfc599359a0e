"""What `artseek ingest` finds in folders, how it labels it, and which files it will not read."""

import os
from pathlib import Path

import pytest

from services.producer.ingest import Summary, reader
from shared.errors import Invalid
from shared.folders import Source, walk
from shared.state import Job, Rejection
from shared.state.jobs import Outcome


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


def test_links_to_files_are_followed_and_links_to_folders_are_not(folder: Path) -> None:
    (folder / "c" / "again").symlink_to(folder)  # would go round for ever
    (folder / "c" / "link.jpg").symlink_to(folder / "b" / "2.jpg")
    assert "c/link.jpg" in names(list(walk([folder], labels_from_folders=False)))
    assert len(list(walk([folder], labels_from_folders=False))) == 6
    (folder / "linked").symlink_to(folder / "b")
    assert names(list(walk([folder / "linked"], labels_from_folders=False))) == ["10.jpg", "2.jpg"]


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nowhere"):
        list(walk([tmp_path / "nowhere"], labels_from_folders=False))


def test_a_name_that_is_no_utf_8_is_made_so_and_the_file_is_read(tmp_path: Path) -> None:
    """Archives of old have names in Latin-1; a segment and JSON hold text only."""
    folder = os.fsencode(tmp_path) + b"/k\xfcnste"
    os.mkdir(folder)  # noqa: PTH102 -- a name of bytes
    Path(os.fsdecode(folder + b"/\xe4.jpg")).write_bytes(b"data")
    (found,) = walk([tmp_path], labels_from_folders=True)
    assert (found.name, found.label) == ("k\ufffdnste/\ufffd.jpg", "k\ufffdnste")
    assert reader(found, max_bytes=1000)() == b"data"
    (found,) = walk([found.path], labels_from_folders=True)
    assert (found.name, found.label) == ("\ufffd.jpg", "k\ufffdnste")
    lost = Rejection(found.name, "empty", "why")
    job = Job("j", "ingest", "art", 0.0, True, 1, 1, frozenset({0}), Outcome({}, 0, (lost,)))  # noqa: FBT003
    (rejected,) = Summary(job, {found.name: found.path}, 1.0).to_json()["rejected"]
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
    path.write_bytes(b"x" * 1000)
    assert read(path) == b"x" * 1000
    assert code(path, max_bytes=999) == "too-large"


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
