"""What is read to look for copies: no large original whose derivative is there, and no picture twice."""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from services.evaluator.copies import CopyFinder
from services.evaluator.queries import Queries
from shared.errors import ObjectNotFound
from shared.images import DirectDecoder
from shared.index.derivatives import Derivatives
from shared.storage import layout
from tests.support.pictures import quadrants, saved

FILES = {"master": saved(quadrants(200, 100), "TIFF"), "small": saved(quadrants(200, 100), "JPEG")}
TYPES = {"master": "image/tiff", "small": "image/jpeg"}
DIGESTS = {name: layout.digest_of(data) for name, data in FILES.items()}
IDS = {name: layout.image_id(digest) for name, digest in DIGESTS.items()}


class Store:
    """Objects in memory, which counts what is read of them."""

    def __init__(self) -> None:
        self.objects = {layout.original_key(DIGESTS[name]): data for name, data in FILES.items()}
        self.read = Counter[str]()

    def get(self, key: str, *, start: int = 0, size: int = 0) -> bytes:
        self.read[key] += 1
        if key not in self.objects:
            raise ObjectNotFound(key)
        return self.objects[key][start : start + size if size else None]

    def put(self, key: str, data: bytes, _: str = "") -> None:
        self.objects[key] = data

    def exists(self, key: str) -> bool:
        return key in self.objects


class Query:
    def image(self, _: str, image_id: int) -> Any:
        (name,) = (name for name in FILES if IDS[name] == image_id)
        return SimpleNamespace(
            id=image_id,
            digest=DIGESTS[name],
            media_type=TYPES[name],
            width=200,
            height=100,
            size=len(FILES[name]),
            labels=["x"],
            record="",
        )


def test_a_large_original_is_not_read_where_its_derivative_is_there_and_nothing_twice() -> None:
    store, decoder = Store(), DirectDecoder()
    made = Derivatives(cast("Any", store), decoder)
    made.make(DIGESTS["master"], FILES["master"], decoder.identify(FILES["master"]))
    names = ["master", "small"]
    queries = Queries(
        digests=[DIGESTS[name] for name in names],
        stored=[DIGESTS[name] for name in names],
        names=names,
        field="label",
        labels=[("x",), ("x",)],
        ids=np.array([IDS[name] for name in names]),
        vectors={},
        in_collection=np.ones(2, np.bool_),
        relevant=np.ones(2, np.int64),
        classes={"x": 2},
        rejected=(),
        digest="",
    )
    ids = np.array([[IDS["small"], -1], [IDS["master"], -1]])
    nearest = cast("Any", SimpleNamespace(ids=ids, distances=np.zeros((2, 2), np.float32)))
    store.read.clear()
    finder = CopyFinder(cast("Any", store), cast("Any", Query()), decoder)
    found = finder.find("art", queries, nearest, slice(0, 2), sample=True)
    assert {(copy.name, copy.image_id) for copy in found.copies} == {("master", IDS["small"]), ("small", IDS["master"])}
    assert found.unchecked == 0
    assert store.read == {layout.derivative_key(DIGESTS["master"]): 1, layout.original_key(DIGESTS["small"]): 1}
