"""`artseek report` from a folder to the page: every section made by running, gone on with, wrong input named."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cli.main import main
from reproduction import command, networks
from reproduction.networks import Network
from tests.support.small_backbone import SMALL
from tests.support.training_runs import run_training
from training.backbones import BACKBONES, Backbone

_CLASSES = ("drawings", "engraving", "painting")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the report's layout: coarse noise, of another colour for each class."""
    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def picture(path: Path, shade: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (8, 8, 3)) + 50 * shade
        Image.fromarray(pixels.astype(np.uint8)).resize((80, 80)).save(path)

    for shade, name in enumerate(_CLASSES):
        for number in range(12):
            picture(made / "train" / name / f"{number}.png", shade)
        for number in range(3):
            picture(made / "validation" / name / f"{number}.png", shade)
    for number in range(10):
        picture(made / "distractor" / f"{number}.png", 3)
    (made / "train" / "painting" / "no.jpg").write_text("no image")
    return made


@pytest.fixture
def _small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small network stand in for both: what the sections say does not depend on which it is."""
    monkeypatch.setitem(cast("dict[str, Backbone]", BACKBONES), SMALL.name, SMALL)
    pixels = cast("dict[str, object]", networks._REPORT_PIXELS)
    monkeypatch.setitem(pixels, SMALL.name, networks._REPORT_PIXELS["efficientnet-lite0"])
    both = tuple(Network(key, key, SMALL.name, "random", 64, "") for key in ("resnet50", "resnet50v2"))
    monkeypatch.setattr(command, "networks", lambda *_: both)
    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run_training, PIPE=subprocess.PIPE))


def _report(*arguments: object) -> Result:
    done = CliRunner().invoke(main, ["report", *map(str, arguments)])
    done.output_bytes = b" ".join(done.output_bytes.split())  # which are wrapped for a terminal
    return done


def test_the_sections_are_the_report_s() -> None:
    found = list(command._outline(networks.networks(None, None, None), training=True))
    first = ["2.1", "5.1.1", "5.1.2", "5.2.1", "5.2.2"]
    assert found == [*first, *(f"6.1.{n}" for n in range(1, 8)), *(f"6.2.{n}" for n in range(1, 7))]
    assert list(command._outline(networks.networks(None, None, None), training=False)) == first


@pytest.mark.usefixtures("_small_networks")
def test_a_report_is_made_and_made_again_from_what_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_MODELS", {"resnet50": ("resnet50-model1",), "resnet50v2": ("resnet50v2-model4",)})
    out = tmp_path / "out"
    arguments = (folder, "--out", out, "--epochs", 1, "--json")
    done = _report(*arguments)
    assert done.exit_code == 0, done.output
    values = json.loads((out / "report.json").read_text("utf-8"))
    sections = {section["number"]: section for section in values["sections"]}
    assert list(sections) == [
        "2.1",
        "5.1.1",
        "5.1.2",
        "5.2.1",
        "5.2.2",
        *(f"6.{a}.{b}" for a in (1, 2) for b in (1, 2, 3)),
    ]
    for name in ("report.html", "report.md"):
        text = (out / name).read_text("utf-8")
        assert "Not run yet" not in text
        assert all(section["title"] in text for section in sections.values())
    assert all((out / picture).exists() for section in sections.values() for picture in section["pictures"])

    cleaning = sections["2.1"]["tables"]
    assert [row[:3] for row in cleaning[0]["rows"]][-1] == ["all", "36", "9"]
    assert cleaning[1]["rows"][0][:2] == ["no.jpg", "painting"]
    grid = sections["5.2.2"]["tables"][0]
    assert len(grid["rows"]) == 15 * 4
    assert grid["rows"][0][:4] == ["g=3\N{NO-BREAK SPACE}h=2", "report", "8.0", "0.369"]
    fitted = [row for row in grid["rows"] if row[1].startswith("w for a recall")]
    assert all(float(row[-1]) == pytest.approx(0.9, abs=0.001) for row in fitted)
    empty = sections["6.2.3"]["tables"][0]  # with one model, this is what stands for 6.2.6
    assert len(empty["rows"]) == 15 * 3
    assert not any(row[1] == "report" for row in empty["rows"])
    scan = sections["6.1.2"]["tables"][0]["rows"]
    assert [row[1] for row in scan] == ["report", "here", "here, without distractors"]
    assert scan[0][4] == "0.761"
    trained = json.loads((out / "runs" / "resnet50-model1" / "report.json").read_text("utf-8"))
    assert sections["6.1.1"]["tables"][0]["rows"][1][1] == f"{trained['accuracy']:.4f}"

    kept = {path: path.stat().st_mtime_ns for path in (out / "embeddings").iterdir()}
    again = _report(*arguments)
    assert again.exit_code == 0, again.output
    assert json.loads((out / "report.json").read_text("utf-8")) == values
    assert {path: path.stat().st_mtime_ns for path in (out / "embeddings").iterdir()} == kept


def test_wrong_input_is_named(folder: Path, tmp_path: Path) -> None:
    lost = _report(tmp_path / "none", "--out", tmp_path / "out")
    assert lost.exit_code == 1
    assert "no folder 'train'" in lost.output
    weights = _report(folder, "--out", tmp_path / "out", "--resnet50", "lost.h5")
    assert weights.exit_code == 1
    assert "lost.h5" in weights.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("not to be written over")
    foreign = _report(folder, "--out", tmp_path / "mine")
    assert foreign.exit_code == 1
    assert "holds no report" in foreign.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
