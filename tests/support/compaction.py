"""What a compaction leaves: which images a reader sees, and that nothing else is there."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from services.maintenance.compaction import Compactor
from shared.storage import layout, segments
from tests.support import rows
from tests.support.indexing import Parts


def compactor(parts: Parts, life: list[int] | None = None) -> Compactor:
    """Return a compactor, which dies at some call to a server if it is given a life."""
    return Compactor(parts.clients(life))


def seen(parts: Parts, name: str) -> Counter[int]:
    """Return the images that a reader of the store has now, and how often: a merged segment stands for its inputs."""
    batches = {
        segment: segments.unpack(parts.store.get(layout.segment_key(name, segment)), verify=True)
        for segment in parts.catalog.segments(name)
    }
    hidden = {segment for batch in batches.values() for segment in segments.inputs_of(batch)}
    deleted = parts.catalog.tombstones(name)
    found: Counter[int] = Counter()
    for segment, batch in batches.items():
        if segment in hidden:
            continue
        inputs, origins = segments.inputs_of(batch), segments.origins_of(batch)
        for row, image in enumerate(segments.ids_of(batch).tolist()):
            origin = inputs[origins[row]] if origins is not None else segment
            if not {(segment, image), (origin, image)} & deleted:
                found[image] += 1
    return found


def assert_whole(parts: Parts, name: str, numbers: Sequence[int]) -> None:
    """Check that a collection has exactly these images, by the store and by the state, and has nothing left over."""
    ids = rows.ids(numbers)
    listed = parts.catalog.segments(name)
    assert seen(parts, name) == dict.fromkeys(ids, 1)
    assert parts.state.claims.count(name) == len(ids)
    held: dict[str, set[int]] = defaultdict(set)
    for image, holder in zip(ids, parts.state.claims.holders(name, ids), strict=True):
        held[str(holder)].add(image)
    assert held.keys() <= set(listed)
    for segment, images in held.items():
        assert images <= held_by(parts, name, segment)
    assert parts.state.indexed_segments.all(name) == set(listed)
    assert parts.catalog.merges(name) == {}
    assert {segment for segment, _ in parts.catalog.tombstones(name)} <= set(listed)


def held_by(parts: Parts, name: str, segment: str) -> set[int]:
    """Return the images that have a row in a segment."""
    return set(segments.ids_of(segments.unpack(parts.store.get(layout.segment_key(name, segment)))).tolist())


def delete(parts: Parts, numbers: Sequence[int], job: str = "d") -> None:
    parts.indexer().deletion.delete(job=parts.job(job, kind="delete"), collection="art", image_ids=rows.ids(numbers))
