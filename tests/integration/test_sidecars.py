"""Sidecars of many images, read by the threads of an intake: each is stored, whatever happens meanwhile."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.producer import sidecars
from services.producer.sidecars import Sidecars
from shared.errors import StoreUnavailable
from shared.folders import Source
from shared.records.change_file import ImageChange
from shared.records.record_store import RecordStore
from shared.storage.layout import digest_of, image_id
from shared.storage.object_store import ObjectStore

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="Ann"/></rdf:RDF></x:xmpmeta>"""


class Records(RecordStore):
    """Records of a store that is away now and then, beside whose writing other things happen."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.away, self.meanwhile = 0, list[Callable[[], object]]()

    def say(self, collection: str, origin: Any, said: Mapping[int, Any], **options: Any) -> str | None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("it restarts")
        name = super().say(collection, origin, said, **options)
        while self.meanwhile:
            self.meanwhile.pop()()
        return name

    def images(self) -> set[int]:
        """Return the images of which something is said."""
        found = set[int]()
        for change in self.changes("art"):
            with self.reading("art", change.name) as lines:
                found |= {line.id for line in lines if isinstance(line, ImageChange)}
        return found


@pytest.fixture
def records(store: ObjectStore) -> Records:
    store.ensure_bucket()
    return Records(store)


def readings(reader: Sidecars, folder: Path, count: int) -> list[Callable[[], object]]:
    """Return what reads so many images, each of which has a sidecar."""
    made = list[Callable[[], object]]()
    for number in range(count):
        path, data = folder / f"{number}.jpg", b"%d" % number
        path.with_suffix(".xmp").write_bytes(XMP)
        made.append(reader.reading(Source(path, path.name, None), lambda data=data: data))  # type: ignore[misc]
    return made


def images(count: int) -> set[int]:
    return {image_id(digest_of(b"%d" % number)) for number in range(count)}


def test_what_is_read_while_others_are_stored_is_stored_too(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecars, "_AT_ONCE", 3)
    reader = Sidecars(records, "art")
    reads = readings(reader, tmp_path, 6)
    records.meanwhile = reads[3:5]  # as another thread of the intake would
    for read in (*reads[:3], *reads[5:]):
        read()
    reader.store()
    assert records.images() == images(6)


def test_what_is_read_at_the_moment_when_another_thread_stores_is_stored_too(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Sidecars(records, "art")
    first, second, third = readings(reader, tmp_path, 3)
    first()

    def storing(digest: str) -> int:
        reader.store()
        return image_id(digest)

    with monkeypatch.context() as context:
        context.setattr(sidecars, "image_id", storing)
        second()
    third()
    reader.store()
    assert records.images() == images(3)


def test_a_store_that_restarts_is_waited_for_and_one_that_stays_away_is_told(records: Records, tmp_path: Path) -> None:
    reader = Sidecars(records, "art")
    (read,) = readings(reader, tmp_path, 1)
    read()
    records.away = 1
    reader.store()
    assert records.images() == images(1)
    records.away = 1
    impatient = Sidecars(records, "art", patience_s=-1.0)
    (read,) = readings(impatient, tmp_path, 1)
    read()
    with pytest.raises(StoreUnavailable, match="restarts"):
        impatient.store()
