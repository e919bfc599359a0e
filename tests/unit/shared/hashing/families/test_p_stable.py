"""The p-stable family: keys by the formula, whatever the batch; probes, and what is refused."""

import math
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import Invalid
from shared.hashing import FloatArray, HashFamily, HashingError, dumps, from_parts, loads
from shared.hashing.families.p_stable import PStableFamily
from shared.hashing.space import Scaling, Space, fit_space, input_bits
from shared.tuning import fit

DIM = 48


def vectors(seed: int, n: int, dim: int = DIM, *, scale: float = 1.0) -> npt.NDArray[np.float32]:
    """Vectors of few degrees of freedom away from the origin, of length `scale`."""
    rng = np.random.default_rng(seed)
    spread = np.random.default_rng(99).standard_normal((20, dim))
    rows = rng.standard_normal((n, 20)) @ spread + 0.2 * rng.standard_normal((n, dim)) + 2
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True) * scale, dtype=np.float32)


@pytest.fixture(scope="module")
def family() -> HashFamily:
    return fit(vectors(0, 2000), seed=7, family="p-stable", tables=6, hashes=10)


# The formula


def spread_bits(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


@pytest.mark.parametrize("n", [2000, 40])  # with principal axes, and without
@pytest.mark.parametrize("scaling", get_args(Scaling))
def test_keys_are_those_of_the_formula(n: int, scaling: Scaling) -> None:
    space = fit_space(unlike_lengths(0, n), 10 if n == 2000 else None, scaling=scaling)
    family = PStableFamily.draw(space, tables=3, hashes=10, width=0.4, probes=1, seed=7)
    check_formula(family, unlike_lengths(1, 60), scaling)


def test_what_is_fitted_scales_before_the_mean_is_subtracted() -> None:
    family = fit(unlike_lengths(0, 2000), seed=7, family="p-stable", tables=3, hashes=10, width=0.4)
    assert family.parameters()["scaling"] == "before"
    check_formula(family, unlike_lengths(1, 60), "before")
    euclidean = fit(unlike_lengths(0, 200), seed=7, family="p-stable", tables=3, width=0.4, metric="euclidean")
    assert euclidean.parameters()["scaling"] == "none"
    check_formula(euclidean, unlike_lengths(1, 60), "none")


def unlike_lengths(seed: int, n: int) -> npt.NDArray[np.float32]:
    lengths = np.random.default_rng(seed).uniform(0.5, 2, (n, 1)).astype(np.float32)
    return vectors(seed, n) * lengths


def check_formula(family: HashFamily, batch: FloatArray, scaling: Scaling) -> None:
    parameters, arrays = family.parameters(), family.arrays()
    step, width, hashes = 2.0 ** parameters["exponent"], parameters["width"], parameters["hashes"]
    unit = step * 2.0 ** input_bits(DIM)  # a power of two that no vector of the sample is longer than
    for vector, keys in zip(batch, family.keys(batch), strict=True):
        match scaling:
            case "before":
                point = vector / np.linalg.norm(vector.astype(float)) - arrays["mean"] / 2**25
            case "none":
                point = (vector.astype(float) - arrays["mean"] * step) / unit
        if "axes" in arrays:
            point = np.array([sum(point * axis) for axis in arrays["axes"].T / 2**26])
        for table in range(family.tables):
            total = 0
            for number in range(hashes):
                column = table * hashes + number
                x = arrays["directions"][:, column] / 2**26 * math.sqrt(len(point))
                b = arrays["offsets"][column] / parameters["width_steps"] * width
                slot = math.floor((sum(point * x) + b) / width)
                total += slot * (spread_bits((number + 1) * 0x9E3779B97F4A7C15 % 2**64) | 1)
            assert keys[table] == spread_bits(total % 2**64) >> 32


GOLDEN = {
    ("before", True): (
        [[1649851533, 4013151743], [0, 2027411846], [2632194450, 446060570], [139034530, 310846939]],
        [[1649851533, 446060570, 0], [4013151743, 3367259114, 2632194450]],
    ),
    ("before", False): (
        [[3046272600, 3351792928], [1868055106, 310846939], [3046272600, 1868055106], [2632194450, 446060570]],
        [[3046272600, 1276209645, 3651982496], [3351792928, 1295383233, 1761201943]],
    ),
    ("none", True): (
        [[1649851533, 3367259114], [0, 2027411846], [2632194450, 1649851533], [1868055106, 1649851533]],
        [[1649851533, 446060570, 0], [3367259114, 4013151743, 0]],
    ),
    ("none", False): (
        [[3046272600, 2632194450], [1868055106, 1649851533], [3046272600, 1868055106], [2632194450, 446060570]],
        [[3046272600, 1276209645, 24126763], [2632194450, 4013151743, 0]],
    ),
}
"""Keys of four vectors, and probes of the first, by scaling and whether there are axes."""


@pytest.mark.parametrize(("scaling", "axes"), GOLDEN)
def test_a_stored_family_has_the_keys_that_it_had(scaling: str, axes: bool) -> None:  # noqa: FBT001
    """Keys that earlier versions wrote: an index in use is found by them."""

    def numbers(*shape: int, below: int) -> npt.NDArray[np.int64]:
        count = np.arange(1, math.prod(shape) + 1)
        return np.asarray(count * 7_654_321 * 1_000_003 % (2 * below + 1) - below).reshape(shape)

    parameters = {
        "family": "p-stable", "dim": 5, "tables": 2, "hashes": 4, "probes": 3, "exponent": -22, "width_steps": 2**50,
        "scaling": scaling,
    }  # fmt: skip
    arrays: dict[str, npt.NDArray[Any]] = {
        "mean": numbers(5, below=2**21).astype(np.int32),
        "directions": numbers(3 if axes else 5, 8, below=2**25).astype(np.int32),
        "offsets": numbers(8, below=2**48) + 2**48,
    }
    if axes:
        arrays["axes"] = numbers(5, 3, below=2**25).astype(np.int32)
    four = ((np.arange(20).reshape(4, 5) * 7 % 11 - 4) / 3).astype(np.float32)
    keys, probes = GOLDEN[scaling, axes]
    for family in (from_parts(parameters, arrays), loads(dumps(from_parts(parameters, arrays)))):
        assert family.parameters() == parameters
        assert family.keys(four).tolist() == keys
        assert family.probes(four[0]).tolist() == probes


def test_collision_probability_is_that_of_the_theory() -> None:
    """Datar et al. 2004, section 3.2: the probability that one hash of slot width w joins two points at distance u."""
    rng = np.random.default_rng(3)
    space = Space(-input_bits(256), "before", np.zeros(256, dtype=np.int32), None)
    families = [PStableFamily.draw(space, tables=256, hashes=1, width=0.9, probes=1, seed=seed) for seed in range(8)]
    for distance in (0.2, 0.6, 1.0, 1.4):
        pairs = 32
        frames = np.linalg.qr(rng.standard_normal((pairs, 256, 2)))[0]
        angle = 2 * math.asin(distance / 2)
        first = frames[..., 0]
        second = math.cos(angle) * first + math.sin(angle) * frames[..., 1]
        met = np.mean(
            [family.keys(first.astype(np.float32)) == family.keys(second.astype(np.float32)) for family in families]
        )
        ratio = 0.9 / distance
        expected = math.erf(ratio / math.sqrt(2)) - math.sqrt(2 / math.pi) / ratio * (1 - math.exp(-(ratio**2) / 2))
        assert met == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / (8 * 256 * pairs)) + 0.002)


# Independence of the batch


def test_a_vector_has_the_same_keys_alone_and_in_any_batch(family: HashFamily) -> None:
    many = vectors(2, 4000)
    keys = family.keys(many)
    assert keys.shape == (4000, 6)
    assert keys.dtype == np.uint64
    assert (np.concatenate([family.keys(row[None]) for row in many]) == keys).all()
    assert (np.concatenate([family.keys(many[start : start + 32]) for start in range(0, 4000, 32)]) == keys).all()
    assert (family.keys(many[::-1])[::-1] == keys).all()
    assert (family.keys(np.asfortranarray(many)) == keys).all()
    assert (family.keys(many.astype(np.float64)) == keys).all()


@pytest.mark.parametrize("scaling", get_args(Scaling))
@pytest.mark.parametrize(("dim", "scale"), [(1, 1e6), (3, 1e-30), (130, 1e-30), (130, 1.0), (130, 1e6), (1024, 1.0)])
def test_no_sum_leaves_what_a_float_holds_exactly(dim: int, scale: float, scaling: Scaling) -> None:
    """The batch cannot matter, since every sum is of whole numbers below 2**53 in whatever order."""
    sample = vectors(4, 100, dim, scale=scale)
    space = fit_space(sample, 12, scaling=scaling)
    extremes = np.concatenate([sample, -sample * 1000, np.eye(dim, dtype=np.float32)[:5] * 1e9])
    centred = Space(space.exponent, space.scaling, space.mean, None)
    points = centred.coordinates(extremes)
    assert (points == np.rint(points)).all()
    assert space.axes is not None
    assert (np.abs(points) @ np.abs(space.axes.astype(np.float64))).max() < 2**53
    longest = 2 * 2.0 ** input_bits(dim)
    assert dim * longest**2 <= 2**52
    assert np.linalg.norm(space.mean.astype(np.float64)) <= 2**25 * 1.001
    coordinates = space.coordinates(extremes)
    assert (coordinates == np.rint(coordinates)).all()
    family = PStableFamily.draw(space, tables=4, hashes=16, width=1.0, probes=1, seed=0)
    assert (np.abs(coordinates) @ np.abs(family.arrays()["directions"].astype(np.float64))).max() < 2**53
    loaded = loads(dumps(family))
    assert (loaded.keys(extremes) == family.keys(extremes)).all()


# Lengths


@pytest.mark.parametrize("kind", ["p-stable", "voronoi"])
def test_a_length_tells_nothing_where_directions_are_hashed(kind: str) -> None:
    family = fit(vectors(0, 500), seed=7, family=kind, tables=3, hashes=8, cells=50)
    batch = vectors(1, 200)
    keys = family.keys(batch)
    powers = np.random.default_rng(0).integers(-90, 90, 200)
    assert (family.keys(np.ldexp(batch, powers[:, None]).astype(np.float32).astype(np.float32)) == keys).all()
    for factor in (1e-20, 0.003, 7.0, 1e12):
        assert (family.keys(batch * np.float32(factor)) == keys).mean() > 0.99
        assert (family.probes(batch[0] * np.float32(factor))[:, 0] == keys[0]).all()


@pytest.mark.parametrize("kind", ["p-stable", "voronoi"])
def test_a_length_tells_where_distances_are_euclidean(kind: str) -> None:
    family = fit(unlike_lengths(0, 500), seed=7, family=kind, tables=3, hashes=8, cells=50, metric="euclidean")
    batch = unlike_lengths(1, 200)
    assert (family.keys(batch * 2) != family.keys(batch)).mean() > 0.5


def test_probes_start_at_home_and_reach_the_neighbouring_buckets(family: HashFamily) -> None:
    many = vectors(5, 200)
    keys = family.keys(many)
    for row, home in zip(many, keys, strict=True):
        probes = family.probes(row, 20)
        assert probes.shape == (6, 20)
        assert probes.dtype == np.uint64
        assert (probes[:, 0] == home).all()
        assert (family.probes(row, 3) == probes[:, :3]).all()
    assert family.probes(many[0]).shape == (6, family.parameters()["probes"])
    nudged = family.keys(many + np.random.default_rng(0).normal(0, 0.01, many.shape).astype(np.float32))
    moved = nudged != keys
    assert 0.01 < moved.mean() < 0.5
    found = [(family.probes(row, 20) == key[:, None]).any(axis=1) for row, key in zip(many, nudged, strict=True)]
    assert np.array(found)[moved].mean() > 0.9


# What is refused


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_place(family: HashFamily, bad: float) -> None:
    batch = vectors(6, 3)
    batch[1, 5] = bad
    with pytest.raises(HashingError, match=r"vector 1 has -?(nan|inf) at component 5"):
        family.keys(batch)
    with pytest.raises(HashingError, match="component 5"):
        family.probes(batch[1])
    with pytest.raises(HashingError, match="component 5"):
        fit(batch, seed=0)


def test_other_shapes_are_refused(family: HashFamily) -> None:
    with pytest.raises(HashingError, match=r"shape \(2, 47\), expected \[n, 48\]"):
        family.keys(vectors(0, 2)[:, 1:])
    with pytest.raises(HashingError, match=r"shape \(48,\), expected \[n, 48\]"):
        family.keys(vectors(0, 1)[0])
    with pytest.raises(HashingError, match=r"shape \(1, 48\), expected \(48,\)"):
        family.probes(vectors(0, 1))
    with pytest.raises(HashingError, match="expected \\[n, 48\\]"):
        family.probes(vectors(0, 1)[0, :5])
    assert issubclass(HashingError, Invalid)


@pytest.mark.parametrize("probes", [0, -1, 1025])
def test_numbers_of_probes_out_of_range_are_refused(family: HashFamily, probes: int) -> None:
    with pytest.raises(HashingError, match=f"{probes} probes, expected 1"):
        family.probes(vectors(0, 1)[0], probes)


def test_no_vectors_have_no_keys(family: HashFamily) -> None:
    assert family.keys(np.empty((0, DIM), dtype=np.float32)).shape == (0, 6)


# What makes no family


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", None), ("dim", 47), ("tables", 5), ("tables", 300), ("tables", "6"), ("hashes", 11), ("hashes", 0),
        ("probes", True), ("probes", 1025), ("exponent", 1.5), ("width_steps", 0), ("width_steps", 1),
        ("scaling", "later"), ("scaling", None),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(family: HashFamily, name: str, value: object) -> None:
    with pytest.raises(HashingError, match=r"expected"):
        from_parts(family.parameters() | {name: value}, family.arrays())


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("mean", np.zeros(DIM, dtype=np.int64)), ("mean", np.zeros(DIM + 1, dtype=np.int32)),
        ("mean", np.full(DIM, 2**30, dtype=np.int32)), ("axes", np.zeros(DIM, dtype=np.int32)),
        ("axes", np.zeros((DIM, 3), dtype=np.int32)), ("directions", np.zeros((10, 60), dtype=np.float64)),
        ("directions", np.full((10, 60), 2**30, dtype=np.int32)), ("offsets", np.zeros(59, dtype=np.int64)),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(family: HashFamily, name: str, array: npt.NDArray[Any]) -> None:
    with pytest.raises(HashingError, match=r"array (mean|axes|directions|offsets) (is|has) .*, expected"):
        from_parts(family.parameters(), family.arrays() | {name: array})


def test_missing_parts_are_named(family: HashFamily) -> None:
    for name in ("mean", "directions", "offsets"):
        arrays = family.arrays()
        del arrays[name]
        with pytest.raises(HashingError, match=f"array {name} is missing"):
            from_parts(family.parameters(), arrays)
    with pytest.raises(HashingError, match="hash family None is unknown, expected 'voronoi' or 'p-stable'"):
        from_parts({}, family.arrays())
