"""Batches on their way into an embedding set that is being filled: which images count as failed."""

import time
from collections.abc import Sequence

import pytest

from services.maintenance.embedding_batches import EmbeddingBatches
from shared.errors import Unavailable
from shared.messaging.messages import BatchImage
from shared.state import Rejection
from shared.state.outcomes import Outcome
from shared.storage import layout
from tests.support import rows
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


class Embedder:
    """Rejects the first batch, and reports nothing of the images of the others."""

    def __init__(self, parts: Parts) -> None:
        self._jobs = parts.jobs

    def embed(self, *, job: str, batch: int, items: Sequence[BatchImage], **_: object) -> None:
        rejected = tuple(Rejection(item.name, "corrupt", "it is cut") for item in items) if batch == 0 else ()
        self._jobs.report(job, batch, Outcome(rejected=rejected))


def test_an_image_does_not_fail_for_another_of_its_name_in_another_batch(servers: Servers) -> None:
    parts = parts_of(servers.settings)
    art = parts.collection()
    batches = EmbeddingBatches(parts.state, Embedder(parts), art, lambda: None)  # type: ignore[arg-type]
    until = time.monotonic() + 60
    for number in range(2):
        batches.send([BatchImage(rows.digest(number), "scan.jpg", None, 1)], until)
    assert batches.wait(until)
    assert set(parts.state.model_changes.failed("art")) == {rows.image_id(0)}


def test_a_window_tells_that_an_image_did_not_fail_as_another_of_its_name_did(servers: Servers) -> None:
    parts = parts_of(servers.settings)
    name = layout.regions_of("art")
    parts.collection(name)
    items = [BatchImage(rows.digest(number), "IMG_1.jpg", None, 1) for number in range(3)]
    parts.state.claims.claim(name, "windows", [layout.window_id(items[1].digest, 0)])
    parts.state.indexed_segments.add(name, "windows")
    parts.state.claims.claim(name, "unwritten", [layout.window_id(items[2].digest, 0)])  # by a task that died
    batches = EmbeddingBatches(parts.state, Embedder(parts), parts.catalog.get(name), lambda: None)  # type: ignore[arg-type]
    until = time.monotonic() + 60
    batches.send(items, until)
    assert batches.wait(until)
    assert set(parts.state.model_changes.failed(name)) == {rows.image_id(0), rows.image_id(2)}


def test_a_page_that_cannot_be_embedded_counts_as_failed(servers: Servers) -> None:
    class Refusing(Embedder):
        def embed(self, *, job: str, batch: int, items: Sequence[BatchImage], **_: object) -> None:
            rejected = tuple(Rejection(item.title, "corrupt", "it is cut") for item in items)
            self._jobs.report(job, batch, Outcome(rejected=rejected))

    parts = parts_of(servers.settings)
    batches = EmbeddingBatches(parts.state, Refusing(parts), parts.collection(), lambda: None)  # type: ignore[arg-type]
    until = time.monotonic() + 60
    batches.send([BatchImage(rows.digest(number), "scan.tif", None, 1, page=number + 1) for number in range(3)], until)
    assert batches.wait(until)
    assert set(parts.state.model_changes.failed("art")) == {rows.image_id(number) for number in range(3)}


def test_no_more_batches_are_with_the_embedder_than_may_be(servers: Servers) -> None:
    class Silent(Embedder):
        sent = 0

        def embed(self, **_: object) -> None:
            self.sent += 1

    parts = parts_of(servers.settings)
    silent = Silent(parts)
    batches = EmbeddingBatches(parts.state, silent, parts.collection(), lambda: None, outstanding=2)  # type: ignore[arg-type]
    for number in range(2):
        batches.send([BatchImage(rows.digest(number), "scan.jpg", None, 1)], 0.0)
    with pytest.raises(Unavailable, match="does not keep up"):
        batches.send([BatchImage(rows.digest(2), "scan.jpg", None, 1)], 0.0)
    assert silent.sent == 2
