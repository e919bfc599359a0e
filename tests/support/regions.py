"""A collection whose regions are indexed, on real servers, for tests of what makes and removes its windows."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from shared.images import DirectDecoder
from shared.storage import layout, segments
from shared.windows import box_of, windows
from tests.support.model_changes import SIZE, System
from tests.support.model_servers import ModelServerProcess
from tests.support.servers import Servers

SIDES = [(96, 96), (120, 90), (300, 100)]
LONG = 2  # the remainder of the numbers of long pictures, divided by the number of sides


def large_picture(number: int) -> bytes:
    """Return a PNG of smooth random colours that has windows, different for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(SIDES[number % len(SIDES)], Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


LARGE_PICTURES = {number: large_picture(number) for number in range(60)}
DIGESTS = {number: layout.digest_of(data) for number, data in LARGE_PICTURES.items()}


class RegionSystem(System):
    """Workers and a collection `art` of pictures that have windows."""

    def __init__(
        self, servers: Servers, model_server: ModelServerProcess, pictures: Mapping[int, bytes] = LARGE_PICTURES
    ) -> None:
        super().__init__(servers, model_server, pictures)

    def switch(self, *, on: bool, job: str = "regions") -> str:
        """Have the index of regions switched; `line.run` does the rest."""
        self.jobs.create(job, "art", kind="regions")
        self.line.maintenance.region_maker.switch(job=job, collection="art", on=on)
        return job

    def switched_on(self, numbers: Sequence[int]) -> None:
        """Add images, and have their regions indexed."""
        self.add(numbers)
        self.line.run()
        self.switch(on=True)
        self.line.run()

    def rows(self, collection: str = "art") -> dict[str, dict[int, Any]]:
        """Return the live windows: by the digests of their images, their embeddings by their ids."""
        regions = self.catalog.get(layout.regions_of(collection))
        deleted = self.catalog.tombstones(regions.name)
        found: defaultdict[str, dict[int, Any]] = defaultdict(dict)
        for segment in self.catalog.segments(regions.name):
            rows = segments.unpack(self.parts.store.get(layout.segment_key(regions.name, segment)), verify=True)
            for row, window in enumerate(segments.ids_of(rows).tolist()):
                entry = segments.entry_of(rows, row)
                if (segment, window) not in deleted:
                    assert window not in found[entry.digest], "a window is there twice"
                    box = box_of(entry.name)
                    found[entry.digest][window] = (box, segments.vectors_of(rows)[row])
        return found

    def digests_stored(self) -> set[str]:
        """Return the digests of all images of which there is any window in the store, deleted or not."""
        found: set[str] = set()
        for stored in self.parts.store.list("vectors/art~regions"):
            rows = segments.unpack(self.parts.store.get(stored.key))
            found |= {digest.hex() for digest in rows.column("digest").to_pylist()}
        return found

    def assert_windows(self, numbers: Sequence[int], model: str = "old", collection: str = "art") -> None:
        """Check that all windows of these images are indexed, each once, and no others."""
        regions = self.catalog.get(layout.regions_of(collection))
        assert (regions.model, regions.version) == (model, 1)
        found = self.rows(collection)
        assert set(found) == {DIGESTS[number] for number in numbers}
        total = 0
        for number in numbers:
            data, digest, size = self.pictures[number], DIGESTS[number], SIDES[number % len(SIDES)]
            expected = windows(*size)
            assert set(found[digest]) == {layout.window_id(digest, place) for place in range(len(expected))}
            pixels = np.stack([DirectDecoder().decode(data, size=SIZE, part=window)[0] for window in expected])
            with self.connect(model, 1) as serving:
                wanted = serving.embed(pixels)
            for place, (left, top, right, bottom) in enumerate(expected):
                box, vector = found[digest][layout.window_id(digest, place)]
                assert box == (left, top, right - left, bottom - top)
                assert float(vector @ wanted[place]) > 0.99
            total += len(expected)
        assert self.state.claims.count(regions.name) == total
        indexed = self.state.indexed_segments.all(regions.name)
        assert indexed == set(self.catalog.segments(regions.name))
