"""Maps: how they are stored, and where images belong that they were not fitted on."""

import io
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import Invalid, TooNew
from shared.maps.image_map import ImageMap, Projection
from shared.maps.placing import place

COUNT = 40


def a_map() -> ImageMap:
    chance = np.random.default_rng(3)
    return ImageMap(
        model="lite",
        version=2,
        created=1_790_000_000.5,
        ids=np.sort(chance.choice(2**53, COUNT, replace=False)).astype(np.int64),
        positions=chance.uniform(-1, 1, (COUNT, 2)).astype(np.float32),
        fitted=np.arange(COUNT) % 2 == 0,
        projection=Projection(np.zeros(8, np.float32), np.eye(8, 3, dtype=np.float32)),
    )


def arrays(made: ImageMap) -> list[NDArray[np.generic]]:
    return [made.ids, made.positions, made.fitted, made.projection.mean, made.projection.components]


def test_a_map_comes_back_as_it_was_stored() -> None:
    made = a_map()
    found = ImageMap.unpack(made.pack(), place="maps/art/map.npz")
    assert (found.model, found.version, found.created) == ("lite", 2, 1_790_000_000.5)
    assert all(np.array_equal(one, other) for one, other in zip(arrays(found), arrays(made), strict=True))


def changed(data: bytes, **new: NDArray[np.generic]) -> bytes:
    with np.load(io.BytesIO(data)) as found:
        values = dict(found)
    file = io.BytesIO()
    np.savez(file, **(values | new))
    return file.getvalue()


def test_what_a_newer_version_wrote_and_what_is_damaged_is_refused_by_name() -> None:
    data, place_ = a_map().pack(), "maps/art/map.npz"
    header = json.dumps({"format": 2, "model": "lite", "version": 2, "created": 0.0}).encode()
    with pytest.raises(TooNew, match=place_):
        ImageMap.unpack(changed(data, header=np.frombuffer(header, np.uint8)), place=place_)
    for broken in (data[:200], b"", changed(data, ids=np.arange(3))):
        with pytest.raises(Invalid, match=place_):
            ImageMap.unpack(broken, place=place_)


def test_a_map_of_some_of_its_images_keeps_them_where_they_were() -> None:
    made = a_map()
    left = made.of(made.ids[5:20])
    assert np.array_equal(left.ids, made.ids[5:20])
    assert np.array_equal(left.positions, made.positions[5:20])
    assert np.array_equal(left.fitted, made.fitted[5:20])


def test_an_image_is_placed_amid_those_that_it_is_like() -> None:
    chance = np.random.default_rng(5)
    centres = np.eye(4, dtype=np.float32) * 10
    group = np.repeat(np.arange(4), 30)
    known = (centres[group] + chance.normal(size=(120, 4))).astype(np.float32)
    middles = np.array([[-0.8, -0.8], [0.8, -0.8], [-0.8, 0.8], [0.8, 0.8]], np.float32)
    positions = (middles[group] + chance.uniform(-0.1, 0.1, (120, 2))).astype(np.float32)
    new_group = np.arange(2000) % 4
    points = (centres[new_group] + chance.normal(size=(2000, 4))).astype(np.float32)
    ids = np.arange(1, 2001)
    found = place(points, ids, known, positions)
    assert np.abs(found - middles[new_group]).max() < 0.2
    assert len(np.unique(found, axis=0)) == 2000  # none hides another
    assert np.array_equal(found, place(points, ids, known, positions))
    # Alone or among others, an image lies at the same place.
    assert np.allclose(found[1500:1510], place(points[1500:1510], ids[1500:1510], known, positions), atol=1e-6)
    assert place(points[:3], ids[:3], known[:1], positions[:1]) == pytest.approx(np.repeat(positions[:1], 3, axis=0))
