"""Batches on their way into an embedding set that is being filled: which images count as failed."""

import time
from collections.abc import Sequence

from services.maintenance.embedding_batches import EmbeddingBatches
from shared.messaging.messages import BatchImage
from shared.state import Rejection
from shared.state.outcomes import Outcome
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
