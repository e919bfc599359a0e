"""The data folder: which names it may have, and what is refused by name."""

import os
from pathlib import Path

import pytest

from local.data_folder import AlreadyRunning, DataFolder, usable_folder
from shared.errors import Invalid

ODD = ["Museum, Berlin", "Photos #2", "a'b\"c", "${HOME}", "Gemälde", "-dash", " ", "two\nlines", "%s {0} $x ~ & ; |"]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_taken(tmp_path: Path, name: str) -> None:
    folder = DataFolder(tmp_path / name)
    assert folder.path == (tmp_path / name).resolve()
    assert folder.secrets(["password"]) == folder.secrets(["password"])
    with pytest.raises(AlreadyRunning):
        DataFolder(tmp_path / name)


@pytest.mark.parametrize("name", ["what?", "all*", "[1]", "back\\slash"])
def test_a_name_that_tensorflow_misreads_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="rename it, or choose another"):
        DataFolder(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        usable_folder(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))
