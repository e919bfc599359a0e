"""Files outside of the folders that are set are never opened, whatever leads there."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import Invalid
from shared.settings import Settings
from shared.storage.link_roots import LinkRoots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "masters"
    (made / "a").mkdir(parents=True)
    (made / "a" / "1.tif").write_bytes(b"mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return made


def test_files_below_a_root_are_opened_by_their_real_paths(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(root)
    (root / "link.tif").symlink_to("a/1.tif")
    roots = LinkRoots.parse(f"/nowhere{os.pathsep}{tmp_path / 'mount'}/")
    real = roots.admitted(tmp_path / "mount" / "link.tif")
    assert real == root / "a" / "1.tif"
    with roots.open(real) as file:
        assert file.read() == b"mine"
    assert roots.admitted(root) == root
    assert roots
    assert not LinkRoots.parse("")


def test_what_leads_out_of_a_root_is_refused(root: Path, tmp_path: Path) -> None:
    roots = LinkRoots.parse(str(root))
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "secret").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "masters-2").mkdir()
    (tmp_path / "masters-2" / "b").write_bytes(b"beside")
    outside = ("out/secret", "secret", "../outside/secret", "a/../../outside/secret", "../masters-2/b", "/etc/passwd")
    for path in outside:
        with pytest.raises(Invalid, match="ARTSEEK_LINK_ROOTS"):
            roots.admitted(root / path)
        with pytest.raises((Invalid, OSError)):
            roots.open(root / path)
    with pytest.raises(Invalid, match="not set"):
        LinkRoots().admitted(root / "a" / "1.tif")


def test_what_became_a_link_after_it_was_admitted_is_not_followed(root: Path, tmp_path: Path) -> None:
    roots = LinkRoots.parse(str(root))
    (tmp_path / "outside" / "1.tif").write_bytes(b"secret")
    admitted = roots.admitted(root / "a" / "1.tif")
    (root / "a" / "1.tif").unlink()
    (root / "a" / "1.tif").symlink_to(tmp_path / "outside" / "1.tif")
    with pytest.raises(OSError, match="symbolic"):
        roots.open(admitted)
    (root / "a").rename(root / "b")
    (root / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="directory"):
        roots.open(admitted)
    os.mkfifo(root / "pipe")
    with pytest.raises(OSError, match="no plain file"):
        roots.open(root / "pipe")


def test_a_setting_that_names_no_folders_is_refused() -> None:
    for text in ("masters", "/masters:relative", "/"):
        with pytest.raises(ValidationError, match="absolute path"):
            Settings(link_roots=text)  # type: ignore[call-arg]
