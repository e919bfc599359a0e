"""A run's folder: it is found again as it was left, refuses another run, and half-written files do no harm."""

from pathlib import Path

import numpy as np
import pytest

from shared.errors import Invalid
from training.runs import Run, StoredOutputs, locked

ABOUT = {"recipe": {"name": "mine", "batch": 8}, "seed": 3}


def test_a_run_is_found_again_as_it_was_left(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", ABOUT)
    assert (run.saved(), run.result()) == (None, None)
    arrays = {"weight-0": np.arange(6.0).reshape(2, 3), "step": np.array(7)}
    run.save(arrays, {"best": 2})
    found = Run.open(tmp_path / "run", ABOUT).saved()
    assert found is not None
    assert found[1] == {"best": 2}
    assert found[0].keys() == arrays.keys()
    assert np.array_equal(found[0]["weight-0"], arrays["weight-0"])


def test_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    Run.open(tmp_path / "run", ABOUT)
    with pytest.raises(Invalid, match="differs in seed, size;"):
        Run.open(tmp_path / "run", {**ABOUT, "seed": 4, "size": 64})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(Invalid, match="is not empty and holds no training run"):
        Run.open(tmp_path / "photos", ABOUT)
    (tmp_path / "run" / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(Invalid, match=r"run\.json' cannot be read"):
        Run.open(tmp_path / "run", ABOUT)


def test_what_was_half_written_when_it_died_is_not_read(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", ABOUT)
    run.save({"step": np.array(1)}, {"best": 0})
    run.path("state.npz.part").write_bytes(b"PK half")
    found = run.saved()
    assert found is not None
    assert int(found[0]["step"]) == 1
    run.path("state.npz").write_bytes(b"PK half")
    with pytest.raises(Invalid, match=r"state\.npz' is damaged"):
        run.saved()


def test_outputs_are_filled_from_the_front_and_go_on_there(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    path = tmp_path / "frozen.npy"
    StoredOutputs(path, (5, 2, 3), np.float32).append(values[:2])
    again = StoredOutputs(path, (5, 2, 3), np.float32)
    assert again.count == 2
    again.values[2] = 99  # written, but not counted when it died
    again = StoredOutputs(path, (5, 2, 3), np.float32)
    again.append(values[2:])
    assert np.array_equal(StoredOutputs(path, (5, 2, 3), np.float32).values, values)
    other = StoredOutputs(path, (4, 2, 3), np.float16)  # of other images, or another network
    assert (other.count, other.values.shape) == (0, (4, 2, 3))
    assert other.values.dtype == np.float16
    path.write_bytes(b"broken")
    assert StoredOutputs(path, (5, 2, 3), np.float32).count == 0


def test_what_is_done_with_is_removed_and_the_outcome_stays(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", ABOUT)
    run.save({}, {})
    StoredOutputs(run.path("frozen-training.npy"), (1, 2), np.float32)
    run.write("report.json", b'{"accuracy": 0.5}')
    run.clear()
    assert sorted(path.name for path in run.folder.iterdir()) == ["report.json", "run.json"]
    assert run.result() == {"accuracy": 0.5}


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with locked(run), pytest.raises(Invalid, match="another process is training"), locked(run):
        pass
    with locked(tmp_path / "run"):
        pass
