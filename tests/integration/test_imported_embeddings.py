"""Images that were imported with embeddings: a verification misses the pictures that were there, and no others."""

import numpy as np
import pytest

from shared.messaging.vector_intake import DeclaredModel, VectorIntake
from shared.records.vector_files import EmbeddedImage, EmbeddingFile
from shared.state.outcomes import Outcome
from shared.storage import layout
from shared.storage.trash import Trash
from shared.verification import verifier
from shared.verification.findings import Kind
from shared.verification.verifier import Extent, Verifier
from tests.support import rows
from tests.support.indexing import DIM, Parts, parts_of
from tests.support.servers import Servers

STORED, LOST, SIZELESS = 1, 2, 3  # pictures that the store has when they are imported
NEVER = 4  # a picture that another system has


@pytest.fixture
def parts(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(verifier, "_PAUSE_S", 0.0)
    return parts_of(servers.settings)


def image(number: int, *, size: int | None = None) -> EmbeddedImage:
    entry = rows.entry(number)
    size = entry.size if size is None else size
    return EmbeddedImage(name=entry.name, digest=entry.digest, size=size, media_type="image/jpeg")


def import_images(parts: Parts) -> None:
    """Import images into `made`, of which the store has some pictures, since `art` has them."""
    parts.add(parts.collection("art"), "a", [STORED, LOST, SIZELESS])
    images = [image(STORED), image(LOST), image(SIZELESS, size=0), image(NEVER), EmbeddedImage(name="no-digest.jpg")]
    file = EmbeddingFile(images, np.eye(len(images), DIM, dtype=np.float32))
    done = VectorIntake(parts.clients()).run("made", file, DeclaredModel("lite", 1))
    assert (done.images, done.without_original) == (5, 2)
    segment = layout.batch_segment(done.job, 0)
    parts.indexer().segments.index(set_name="made", segment=segment, job=done.job, batch=0, outcome=Outcome({"": 5}))


def found(parts: Parts, only: str = "made") -> dict[Kind, frozenset[str]]:
    report = Verifier(parts.clients(), query=None).verify(Extent(sample=None))
    return {finding.kind: finding.keys for finding in report.findings if finding.collection == only}


def test_a_picture_that_was_never_there_is_not_missed(parts: Parts) -> None:
    import_images(parts)
    assert found(parts) == {}


def test_a_picture_that_was_there_and_is_lost_is_missed(parts: Parts) -> None:
    import_images(parts)
    parts.store.delete([layout.original_key(rows.digest(LOST))])
    parts.store.put(layout.original_key(rows.digest(STORED)), b"longer")
    parts.store.put(layout.original_key(rows.digest(SIZELESS)), b"9")
    assert found(parts) == {
        "original-missing": {rows.digest(LOST)},
        "original-damaged": {rows.digest(STORED), rows.digest(SIZELESS)},
    }


def test_in_the_trash_too_pictures_are_missed_that_were_there(parts: Parts) -> None:
    import_images(parts)
    parts.delete("made", rows.ids([LOST, NEVER]))
    assert found(parts) == {}
    assert set(Trash(parts.store).digests("made")) == {rows.digest(LOST), rows.digest(NEVER)}
    parts.store.delete([layout.original_key(rows.digest(LOST))])
    assert found(parts) == {"trash-original-missing": {rows.digest(LOST)}}
