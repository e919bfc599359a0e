"""The workers of a running system, each with its own rights, make windows, keep them in step and remove them."""

import itertools
import json
from pathlib import Path

from cli.clients import System, connect_system
from shared.images import identify
from shared.messaging.job_submission import submit, wait_for_end
from shared.storage import layout
from shared.windows import windows
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.stack import Stack


def switch(system: System, *, on: bool) -> int:
    """Switch the regions of the collection on or off; returns how many windows were made or removed."""
    job_id = submit(
        system.state.jobs,
        "regions",
        "details",
        lambda job: system.queue.switch_regions(job=job, collection="details", on=on),
    )
    job = wait_for_end(system.state.jobs, job_id, deadline_s=PATIENCE_S)
    assert job is not None
    assert job.counts.rejected == {}
    return job.counts.affected


def expected(files: list[Path]) -> int:
    infos = [identify(file.read_bytes()) for file in files]
    return sum(len(windows(info.width, info.height)) for info in infos)


def indexed(system: System, collection: str) -> int:
    return system.state.claims.count(system.catalog.get(layout.regions_of(collection)).name)


def test_regions_follow_a_collection_through_its_life(stack: Stack, gallery: Path) -> None:
    files = list(itertools.islice(sorted(gallery.rglob("*.jpg")), 8))
    system = connect_system(stack.settings)
    stack.artseek("ingest", *map(str, files[:6]), "--collection", "details")
    assert switch(system, on=True) == expected(files[:6])
    listed = json.loads(stack.artseek("collections", "--json"))["collections"]
    assert (
        {"details"}
        <= {collection["name"] for collection in listed}
        <= {"details", *(n for n in system.catalog.names())}
    )
    status, _, told = stack.run("search", str(files[0]), "--collection", layout.regions_of("details"))
    assert status
    assert "cannot name a collection" in told
    stack.artseek("ingest", *map(str, files[6:]), "--collection", "details")
    eventually(lambda: indexed(system, "details"), until=lambda found: found == expected(files))
    gone = layout.image_id(layout.digest_of_file(files[0]))
    stack.artseek("delete", str(gone), "--collection", "details", "--purge")
    assert indexed(system, "details") == expected(files[1:])
    stack.artseek("collections", "rename", "details", "closeups")
    assert indexed(system, "closeups") == expected(files[1:])
    report = json.loads(stack.artseek("verify", "--collection", "closeups", "--json"))
    assert report["findings"] == []
    stack.artseek("rebuild", "--collection", "closeups")
    assert indexed(system, "closeups") == expected(files[1:])
    stack.artseek("collections", "delete", "closeups", "--yes")
    assert not [name for name in system.catalog.stored_names() if name.startswith("closeups")]
    assert [stored.key for name in ("closeups", "details") for stored in system.store.list(layout.VECTORS + name)] == []
