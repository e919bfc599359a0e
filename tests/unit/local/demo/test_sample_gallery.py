"""The sample gallery is made on the spot, the same each time, with works of five styles that can be told apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from local.demo import sample_gallery
from local.demo.sample_styles import STYLES
from shared.images import decode, identify

pytestmark = pytest.mark.slow  # a work takes a third of a second


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "works"
    sample_gallery.render(folder, works=35, seed=3)
    return folder


def works_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_works_lie_in_folders_of_their_styles(gallery: Path) -> None:
    works = works_in(gallery)
    assert sample_gallery.render(gallery, works=35, seed=3) == works
    assert Counter(path.parent.name for path in works) == dict.fromkeys(STYLES, 7)
    assert sorted(STYLES) == ["drawing", "engraving", "iconography", "painting", "sculpture"]
    assert [path.name for path in gallery.parent.iterdir()] == ["works"]  # nothing temporary is left


def test_a_style_has_works_from_every_photograph(gallery: Path) -> None:
    for style in STYLES:
        assert len({path.stem.rsplit("-", 1)[0] for path in (gallery / style).iterdir()}) == 7


def test_the_works_are_images_of_moderate_size_and_all_different(gallery: Path) -> None:
    contents = [path.read_bytes() for path in works_in(gallery)]
    assert len(set(contents)) == len(contents)
    for data in contents:
        info = identify(data)
        assert info.format == "jpeg"
        assert 400 <= max(info.width, info.height) <= 480
        assert min(info.width, info.height) >= 250
    pixels = np.stack([decode(data, size=64)[0] for data in contents]).reshape(len(contents), -1).astype(float)
    apart = np.abs(pixels[:, None] - pixels[None]).mean(axis=-1)
    assert apart[~np.eye(len(contents), dtype=bool)].min() > 4


def test_styles_look_as_they_should(gallery: Path) -> None:
    looks: dict[str, list[tuple[float, float, float]]] = {style: [] for style in STYLES}
    for path in works_in(gallery):
        pixels = decode(path.read_bytes(), size=224)[0].astype(float) / 255
        grey = pixels.mean(axis=-1)
        warmth = float((pixels[..., 0] - pixels[..., 2]).mean())
        detail = float(np.abs(np.diff(grey, axis=1)).mean())
        looks[path.parent.name].append((float(grey.mean()), warmth, detail))
    bright, warm, fine = (
        {style: np.mean([look[i] for look in found]) for style, found in looks.items()} for i in range(3)
    )
    assert max(bright, key=lambda style: bright[style]) == "drawing"  # much bare paper
    assert max(warm, key=lambda style: warm[style]) == "iconography"  # gold and earth
    assert max(fine, key=lambda style: fine[style]) == "engraving"  # lines upon lines
    assert fine["sculpture"] < fine["engraving"] / 3  # smooth stone, plain wall


def test_the_same_seed_gives_the_same_works(gallery: Path, tmp_path: Path) -> None:
    again = sample_gallery.render(tmp_path / "again", works=5, seed=3)
    other = sample_gallery.render(tmp_path / "other", works=5, seed=4)
    for path in again:
        assert path.read_bytes() == (gallery / path.relative_to(tmp_path / "again")).read_bytes()
    assert {path.read_bytes() for path in again}.isdisjoint(path.read_bytes() for path in other)


def test_what_is_there_is_kept_and_what_is_missing_is_made(gallery: Path, tmp_path: Path) -> None:
    folder = tmp_path / "works"
    works = sample_gallery.render(folder, works=5, seed=3)
    (folder / "mine.jpg").write_bytes(b"mine")
    before = {path: path.stat().st_mtime_ns for path in works_in(folder)}
    sample_gallery.render(folder, works=5, seed=3)
    assert {path: path.stat().st_mtime_ns for path in works_in(folder)} == before
    works[2].unlink()
    sample_gallery.render(folder, works=5, seed=3)
    assert works[2].read_bytes() == (gallery / works[2].relative_to(folder)).read_bytes()
    assert all(path.stat().st_mtime_ns == before[path] for path in before if path != works[2])


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample_gallery.main([str(tmp_path / "works"), "--works", "2"]) == 0
    assert "2 works" in capsys.readouterr().out
    assert len(works_in(tmp_path / "works")) == 2
    assert sample_gallery.main([str(tmp_path / "none"), "--works", "0"]) == 1
    assert "expected 1 or more" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"")
    assert sample_gallery.main([str(tmp_path / "file"), "--works", "1"]) == 1
