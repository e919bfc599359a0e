"""The report's own figures, theory, and searches evaluated as the report evaluated them."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reproduction.images import queries_to_leak, read_images
from reproduction.page import markdown, write
from reproduction.published import published
from reproduction.searches import K, Searches, Setting
from reproduction.sections import THEIRS, Plot, Section, Table, number
from reproduction.theory import collision, meeting, width_for
from shared.errors import Invalid

CLASSES = ("a", "b", "c")


def test_the_chance_to_collide_is_that_of_drawn_hashes() -> None:
    rng = np.random.default_rng(0)
    width, distance, draws = 3.0, 2.0, 200_000
    point = np.zeros(16)
    other = rng.standard_normal(16)
    other *= distance / np.linalg.norm(other)
    directions, offsets = rng.standard_normal((draws, 16)), rng.random(draws) * width
    same = np.floor((directions @ point + offsets) / width) == np.floor((directions @ other + offsets) / width)
    assert collision(np.array([distance]), width)[0] == pytest.approx(same.mean(), abs=0.004)


def test_the_report_s_neighbours_seldom_meet_by_its_own_parameters() -> None:
    # 18 apart, w = 8: a table of three hash functions holds both in about 1.6 % of all draws.
    assert 3 * meeting(np.array([18.0]), width=8, hashes=4, tables=1)[0] < 0.05
    assert meeting(np.array([17.977]), width=8, hashes=4, tables=3)[0] == pytest.approx(
        1 - (1 - collision(np.array([17.977]), 8)[0] ** 4) ** 3
    )


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4))
def test_a_chance_is_one_and_falls_with_the_distance(width: float, distance: float) -> None:
    near, far, same = collision(np.array([distance, 2 * distance, 0.0]), width)
    assert 0 <= far <= near <= 1 + 1e-12
    assert same == pytest.approx(1, abs=1e-5)


@given(st.integers(1, 8), st.integers(1, 8), st.floats(0.05, 0.99))
def test_slots_are_as_narrow_as_the_recall_allows(hashes: int, tables: int, recall: float) -> None:
    distances = np.array([[1.0, 1.5], [0.5, 4.0]])
    width = width_for(distances, hashes=hashes, tables=tables, recall=recall)
    assert meeting(distances, width=width, hashes=hashes, tables=tables).mean() == pytest.approx(recall, abs=1e-6)


# The report's own figures


def test_what_the_report_says_is_whole() -> None:
    theirs = published()
    assert sum(theirs["validation"].values()) == 856
    assert len(theirs["models"]) == 9
    assert [len(theirs["lsh"][name]["settings"]) for name in ("resnet50", "resnet50v2")] == [5, 15]
    for model in theirs["models"].values():
        # Accuracy is what the recalls of the classes come to, but for their rounding.
        right = sum(count["recall"] * count["support"] for count in model["classes"].values())
        assert right / 856 == pytest.approx(model["accuracy"], abs=0.01)
    for network in theirs["scan"].values():
        for found in network.values():
            for metric in found.values():
                total = sum(share * theirs["validation"][name] for name, share in metric["per_class"].items())
                assert total / 856 == pytest.approx(metric["p_at_k"], abs=0.025)


# Searches


def _searches(count: int = 400, distractors: int = 100, dim: int = 12, spread: float = 0.0) -> Searches:
    """Return searches among three clouds; `spread`: how much all components of an image rise and fall together."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, dim)) * 1.5
    labels = np.concatenate([rng.integers(0, 3, count), np.full(distractors, -1)])
    images = np.where(labels[:, None] >= 0, centres[labels], 0) + rng.standard_normal((count + distractors, dim))
    wanted = rng.integers(0, 3, 40)
    queries = centres[wanted] + rng.standard_normal((40, dim))
    images += spread * rng.standard_normal((len(images), 1))
    queries += spread * rng.standard_normal((40, 1))
    return Searches(images.astype(np.float32), labels, queries.astype(np.float32), wanted, CLASSES)


def _brute(searches: Searches, metric: str, kept: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return P@10, AP@10 and the mean distance or cosine, one query at a time."""
    precisions, averages, means = [], [], []
    for query, label in zip(searches._queries.astype(float), searches._query_labels, strict=True):
        images = searches._images[kept].astype(float)
        if metric == "euclidean":
            distances = np.array([math.dist(query, image) for image in images])
        else:
            lengths = np.linalg.norm(images, axis=1) * np.linalg.norm(query)
            distances = 1 - images @ query / lengths
        first = np.argsort(distances)[:10]
        relevant = searches._labels[kept][first] == label
        precisions.append(relevant.mean())
        hits = [relevant[: place + 1].mean() for place in range(10) if relevant[place]]
        averages.append(sum(hits) / 10)
        means.append((distances if metric == "euclidean" else 1 - distances)[first].mean())
    return float(np.mean(precisions)), float(np.mean(averages)), float(np.mean(means))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_scan_is_what_one_query_at_a_time_gives(metric: str) -> None:
    searches = _searches()
    everything = np.ones(len(searches), dtype=np.bool_)
    found = searches.scan(metric)  # type: ignore[arg-type]
    assert (found.p_at_k, found.ap_at_k, found.mean) == pytest.approx(_brute(searches, metric, everything), rel=1e-9)
    assert (found.recall, found.items, found.share) == (1, 500, 1)
    alone = searches.without_distractors().scan(metric)  # type: ignore[arg-type]
    assert alone.items == 400
    assert (alone.p_at_k, alone.ap_at_k, alone.mean) == pytest.approx(
        _brute(searches, metric, searches._labels >= 0), rel=1e-9
    )
    assert found.p_at_k == pytest.approx(
        np.average(list(found.per_class.values()), weights=np.bincount(searches._query_labels)), rel=1e-9
    )


def test_an_index_finds_what_theory_says() -> None:
    searches = _searches(3000, 0, 24)
    distance = float(searches.neighbours.mean())
    for setting in (Setting(4, 3, 3 * distance), Setting(2, 4, 1.5 * distance), Setting(6, 2, distance)):
        found = searches.index(setting, seeds=range(12))
        assert found.euclidean.recall == pytest.approx(found.predicted_recall, abs=0.05)
        assert found.euclidean.share == pytest.approx(found.predicted_share, abs=0.05)
        assert found.euclidean.items == pytest.approx(3000 * found.euclidean.share)


def test_buckets_that_hold_all_make_a_scan_and_empty_ones_find_nothing() -> None:
    searches = _searches()
    everything = searches.index(Setting(1, 1, 1e5), seeds=[0])
    assert everything.euclidean == searches.scan("euclidean")
    assert everything.cosine == searches.scan("cosine")
    nothing = searches.index(Setting(1, 16, 1e-3), seeds=[0])
    assert (nothing.euclidean.p_at_k, nothing.euclidean.items) == (0, 0)
    assert number(nothing.euclidean.mean) == "–"


def test_directions_with_a_part_in_common_do_not_what_theory_says() -> None:
    searches = _searches(2000, 0, 64, spread=1.0)
    setting = Setting(5, 2, 4 * float(searches.neighbours.mean()))
    normal = searches.index(setting, seeds=range(5))
    uniform = searches.index(setting, seeds=range(5), directions="uniform")
    assert normal.euclidean.share == pytest.approx(normal.predicted_share, abs=0.05)
    assert uniform.euclidean.share < uniform.predicted_share - 0.3
    assert uniform.euclidean.recall < normal.euclidean.recall


def test_a_copy_of_a_query_is_found_first() -> None:
    searches = _searches()
    leaking = searches.with_leaked(np.arange(40))
    assert len(leaking) == 540
    assert leaking.neighbours[:, 0] == pytest.approx(np.zeros(40), abs=1e-5)
    assert leaking.scan("cosine").p_at_k >= searches.scan("cosine").p_at_k


def test_our_index_is_evaluated_by_the_buckets_that_it_probes() -> None:
    parameters, found = _searches(600, 100, 24).tuned(seed=0, recall=0.9)
    assert parameters["family"] == "voronoi"
    assert found.recall > 0.8
    assert 0 < found.share < 1


def test_fewer_images_than_places_leave_places_empty() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((4, 3)).astype(np.float32), np.array([0, 0, 1, -1])
    searches = Searches(images, labels, images[:1] + 1, np.array([0]), CLASSES)
    found = searches.scan("euclidean")
    assert found.p_at_k == 2 / K
    assert found.recall == 1
    assert list(found.per_class) == ["a"]


# The folder


def _picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (shade % 256, shade // 256, 90)).save(path)


def _folder(path: Path) -> Path:
    for place, name in enumerate(("x", "y")):
        for one in range(3):
            _picture(path / "art" / "train" / name / f"{one}.png", 10 * place + one)
        for one in range(2):
            _picture(path / "art" / "validation" / name / f"{one}.png", 100 + 10 * place + one)
    for one in range(3):
        _picture(path / "distractor" / f"{one}.png", 200 + one)
    return path


def test_a_folder_is_cleaned_and_leaks_are_left_out(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _picture(folder / "art" / "train" / "x" / "leaked.png", 100)  # the bytes of a query
    _picture(folder / "art" / "train" / "y" / "copy.png", 10)
    (folder / "art" / "train" / "y" / "page.jpg").write_text("<html>not found</html>")
    (folder / "art" / "corrupted" / "y").mkdir(parents=True)
    (folder / "art" / "corrupted" / "y" / "empty.jpg").touch()
    found = read_images(folder, lambda _: lambda _done, _total: None)
    assert found.gallery.sizes == {"x": 3, "y": 3}
    assert found.leaked == {"x": 1, "y": 0}
    assert found.copies == 1
    assert sorted(refusal.path.name for refusal in found.refused) == ["empty.jpg", "page.jpg"]
    assert found.searched_labels.tolist() == [0, 0, 0, 1, 1, 1, -1, -1, -1]
    assert len(found.all_images) == 6 + 3 + 4
    assert len(queries_to_leak(found, "y", 0.5)) == 1
    assert found.queries.images[int(queries_to_leak(found, "y", 0.5)[0])].label == 1


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_folder_without_what_is_needed_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    folder = _folder(tmp_path)
    (folder / "art" / missing).rename(folder / "elsewhere")
    with pytest.raises(Invalid, match=f"no folder '{missing}'"):
        read_images(folder, lambda _: lambda _done, _total: None)


# The page


def test_a_page_escapes_what_it_shows_and_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG")
    hostile = "<script>alert(1)</script>|x"
    table = Table("of " + hostile, ("class", THEIRS), ((hostile, "1"), (f"ResNet50, {THEIRS}", "2")))
    sections = [
        Section("1", hostile, (hostile,), (table,), (Plot("p.png", hostile),)),
        Section("2", "later", pending=True),
    ]
    write(tmp_path, sections, {"made by": hostile})
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "<script>" not in html
    assert "http" not in html
    assert "data:image/png;base64,iVBORw==" in html
    assert 'class="theirs"' in html
    assert "Not run yet." in html
    text = markdown(sections, {})
    assert "<script>" not in text
    assert "| &lt;script>alert(1)&lt;/script>\\|x | 1 |" in text
    assert not list(tmp_path.glob("*.part"))
