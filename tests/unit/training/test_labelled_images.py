"""What is found in labelled folders, what is said of folders that will not do, and how images are held back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import Invalid
from training.labelled_images import check_same_classes, read_background, read_labelled, split, without_copies_of


def draw(path: Path, seed: int, side: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, name in enumerate(["birds", "cats", "dogs"]):
        for number in range(3 + place):
            draw(tmp_path / "data" / name / f"{number}.png", 10 * place + number)
    return tmp_path / "data"


def test_each_image_has_the_class_of_its_folder(folder: Path) -> None:
    draw(folder / "cats" / "black" / "7.png", 70)
    draw(folder / "beside.png", 80)
    seen: list[tuple[int, int]] = []
    data = read_labelled(folder, lambda done, total: seen.append((done, total)))
    assert data.classes == ("birds", "cats", "dogs")
    assert data.sizes == {"birds": 3, "cats": 5, "dogs": 5}
    assert all(data.classes[image.label] == image.path.relative_to(folder).parts[0] for image in data.images)
    assert (seen[-1], data.copies, data.refused) == ((13, 13), 0, ())


def test_copies_within_a_class_count_once_and_contents_tell_the_data(folder: Path) -> None:
    before = read_labelled(folder)
    (folder / "cats" / "copy.png").write_bytes((folder / "cats" / "0.png").read_bytes())
    after = read_labelled(folder)
    assert (after.copies, after.sizes, after.digest) == (1, before.sizes, before.digest)
    (folder / "cats" / "0.png").rename(folder / "cats" / "another.png")
    assert read_labelled(folder).digest == before.digest
    draw(folder / "cats" / "another.png", 99)
    (folder / "cats" / "copy.png").unlink()
    assert read_labelled(folder).digest != before.digest


def test_what_is_no_image_is_named_and_left_out(folder: Path) -> None:
    (folder / "dogs" / "error.jpg").write_text("<html>not found</html>", encoding="utf-8")
    (folder / "dogs" / "empty.jpg").touch()
    data = read_labelled(folder)
    assert {refusal.path.name for refusal in data.refused} == {"error.jpg", "empty.jpg"}
    assert all(refusal.reason for refusal in data.refused)
    assert data.sizes["dogs"] == 5


def test_folders_that_will_not_do_are_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(Invalid, match=r"there is no folder .*nowhere"):
        read_labelled(tmp_path / "nowhere")
    draw(tmp_path / "flat" / "0.png", 1)
    with pytest.raises(Invalid, match="no class folders"):
        read_labelled(tmp_path / "flat")
    draw(tmp_path / "one" / "only" / "0.png", 1)
    draw(tmp_path / "one" / "only" / "1.png", 2)
    with pytest.raises(Invalid, match="only one class, 'only'"):
        read_labelled(tmp_path / "one")
    draw(folder / "eels" / "0.png", 50)
    (folder / "eels" / "1.png").write_bytes(b"no image")
    with pytest.raises(Invalid, match=r"'eels' has 1 \(.*1\.png.* cannot be read\)"):
        read_labelled(folder)


def test_classes_must_be_in_training_and_validation(tmp_path: Path, folder: Path) -> None:
    for name in ("birds", "cats", "eels"):
        for number in range(2):
            draw(tmp_path / "val" / name / f"{number}.png", 500 + 10 * len(name) + ord(name[0]) + number)
    with pytest.raises(Invalid, match=r"'dogs' missing from the validation images; 'eels' missing from the training"):
        check_same_classes(read_labelled(tmp_path / "val"), read_labelled(folder))


def test_an_image_in_both_is_left_out_of_the_training(tmp_path: Path, folder: Path) -> None:
    for name in ("birds", "cats", "dogs"):
        target = tmp_path / "val" / name
        target.mkdir(parents=True)
        for number in range(2):
            (target / f"v{number}.png").write_bytes((folder / name / f"{number}.png").read_bytes())
    kept, leaked = without_copies_of(read_labelled(folder), read_labelled(tmp_path / "val"))
    assert (leaked, kept.sizes) == (6, {"birds": 1, "cats": 2, "dogs": 3})


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_a_share_of_each_class_is_held_back_always_the_same(folder: Path, share: float) -> None:
    data = read_labelled(folder)
    training, validation = split(data, share)
    assert {*training.images} | {*validation.images} == {*data.images}
    assert not {*training.images} & {*validation.images}
    for name, size in data.sizes.items():
        assert validation.sizes[name] == max(1, round(share * size))
    for one in folder.rglob("*.png"):  # other names, other order
        one.rename(one.with_name(f"{99 - int(one.stem)}.png"))
    again = split(read_labelled(folder), share)
    assert {image.sha256 for image in again[1].images} == {image.sha256 for image in validation.images}


def test_background_is_what_is_in_no_class(shapes: Path, background: Path, tmp_path: Path) -> None:
    labelled = read_labelled(shapes)
    pictures, refused = read_background(background, [labelled])
    assert len(pictures) == 19
    assert [file.path.name for file in refused] == ["broken.png"]
    with pytest.raises(Invalid, match="no folder"):
        read_background(tmp_path / "none", [labelled])
    with pytest.raises(Invalid, match="has 0 images that are in no class"):
        read_background(shapes, [labelled])
    assert without_copies_of(labelled, labelled)[1] == len(labelled)
