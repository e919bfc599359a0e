"""What is live, what is in the trash, and what became of a job, by the store and the index."""

from shared.index.restoring import trash_page
from shared.storage import layout, segments
from tests.support.indexing import Parts


def live(parts: Parts, collection: str) -> set[int]:
    """Return the ids of the live rows, by the store."""
    name = parts.catalog.get(collection).name
    deleted = parts.catalog.tombstones(name)
    found = set()
    for segment in parts.catalog.segments(name):
        batch = segments.unpack(parts.store.get(layout.segment_key(name, segment)))
        found |= {image for image in segments.ids_of(batch).tolist() if (segment, image) not in deleted}
    return found


def in_trash(parts: Parts, collection: str) -> list[int]:
    page = trash_page(parts.clients(), collection, limit=100, offset=0)
    assert page.total == len(page.entries)
    return [entry.id for entry in page.entries]


def outcome(parts: Parts, job: str) -> tuple[bool, int, list[str]]:
    done = parts.jobs.get(job)
    return done.done, done.counts.affected, [rejection.code for rejection in parts.jobs.outcome(job).rejected]
