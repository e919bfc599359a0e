"""A compaction that dies or hangs anywhere, and what other tasks do with what it left."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from services.maintenance.compaction import Compactor
from shared.errors import Unavailable
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.compaction import assert_whole, compactor, delete, seen
from tests.support.deaths import moments
from tests.support.indexing import Died, Parts
from tests.support.servers import Servers


def make_ready(parts: Parts) -> list[int]:
    """Make a collection with six segments, some rows of which are deleted; returns the numbers of its images."""
    art = parts.collection()
    for place in range(5):
        parts.write(art, f"s{place}", [2 * place, 2 * place + 1])
        parts.state.indexed_segments.add("art", f"s{place}")
    parts.write(art, "s5", [99])
    parts.state.indexed_segments.add("art", "s5")
    delete(parts, [0, 1, 7, 99], "before")
    parts.store.put(layout.segment_key("art", "s2"), rows.segment([4, 5, 6], art))  # 6 is of s3
    return [number for number in range(10) if number not in {0, 1, 7}]


@pytest.mark.usefixtures("few")
def test_a_compaction_that_dies_anywhere_shows_every_image_once_and_is_finished_by_the_next(
    parts: Parts, servers: Servers
) -> None:
    lives = [0]
    for life in lives:
        live = make_ready(parts)
        left = [life]
        shared = rows.image_id(6)
        try:
            compactor(parts, left).compact(collection="art", job=parts.job("c", kind="compact"))
        except Died:
            once = seen(parts, "art")
            once[shared] = 1  # its second row may still be there, as it was before
            assert once == dict.fromkeys(rows.ids(live), 1), f"it died at call {life}"
            compactor(parts).compact(collection="art", job="c")
        assert len(parts.catalog.segments("art")) == 1, f"it died at call {life}"
        assert_whole(parts, "art", live)
        if life == 0:
            lives += moments(-left[0], 10)
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 8


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("task", ["drop", "rebuild", "rebuild a lost index", "maintain", "delete"])
def test_every_other_task_copes_with_a_merge_that_was_left(parts: Parts, servers: Servers, task: str) -> None:
    """After the merged segment was written, after the claims were handed over, and in between."""
    lives = [0]
    for life in lives:
        live = make_ready(parts)
        left = [life]
        with suppress(Died):
            compactor(parts, left).compact(collection="art")
        maintenance = parts.maintenance()
        if task == "drop":
            maintenance.dropper.drop(job=parts.job("j", kind="drop"), collection="art")
            assert {item.key for item in parts.store.list("")} == set()
        elif task == "delete":
            delete(parts, [4, 8], "j")
            compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
            assert_whole(parts, "art", [number for number in live if number not in {4, 8}])
        else:
            if task == "rebuild a lost index":
                parts.redis.flushall()
            job = parts.job("j", kind="rebuild")
            if task == "maintain":
                maintenance.tuner.maintain(collection="art")
            else:
                maintenance.rebuilder.rebuild(collection="art", job=job)
            compactor(parts).compact(collection="art", job=parts.job("c", kind="compact"))
            assert_whole(parts, "art", live)
            parts.assert_indexed(parts.catalog.get("art"), live)
        if life == 0:
            lives += moments(-left[0], 4)
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 4


class Interrupted:
    """Passes every call on to a real part, and lets something else happen before one of them."""

    def __init__(self, real: object, at: list[int], happens: Callable[[], None]) -> None:
        self._real, self._at, self._happens = real, at, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._at[0] -= 1
            if self._at[0] == 0:
                self._happens()
            return found(*arguments, **options)

        return call


@pytest.mark.usefixtures("few")
def test_an_image_that_is_deleted_or_comes_back_at_any_moment_of_a_merge_is_gone_or_there(
    parts: Parts, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.indexer.deletion._WAIT_S", 0.05)
    lives = [0]
    for life in lives:
        live = make_ready(parts)
        art = parts.catalog.get("art")
        done: list[int] = []

        def happens(art: EmbeddingSet = art, done: list[int] = done) -> None:
            try:
                delete(parts, [4, 9], "meanwhile")
            except Unavailable:  # it waits for the lock on the claims, that is: it comes after all this
                return
            done.append(4)
            gone = seen(parts, "art")
            assert not {rows.image_id(4), rows.image_id(9)} & gone.keys()
            parts.add(art, "back", [9])

        at = [life]
        clients = parts.wrapped(lambda part, at=at, happens=happens: Interrupted(part, at, happens))  # type: ignore[misc]
        Compactor(clients).compact(collection="art")
        if not done:
            happens()
        assert seen(parts, "art") == dict.fromkeys(rows.ids([number for number in live if number != 4]), 1), life
        assert_whole(parts, "art", [number for number in live if number != 4])
        if life == 0:
            lives += moments(-at[0], 8)
        servers.empty()
        parts.store.ensure_bucket()
    assert len(lives) > 8


@pytest.mark.usefixtures("few")
def test_a_merge_whose_worker_hung_until_another_withdrew_it_is_given_up(parts: Parts) -> None:
    live = make_ready(parts)
    other = compactor(parts)

    class Slow(ObjectStore):
        """While a merged segment is on its way, the lock runs out, and another worker does the work."""

        def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
            if "merged-" in key and key.startswith("vectors/"):
                parts.redis.delete("lock:segments:art")
                other.compact(collection="art")
                assert_whole(parts, "art", live)
            super().put(key, data, media_type)

    slow = Slow(parts.store._client, parts.store._bucket)
    with pytest.raises(Unavailable, match="withdrawn"):
        Compactor(replace(parts.clients(), store=slow)).compact(collection="art")
    assert_whole(parts, "art", live)
    assert len(parts.catalog.segments("art")) == 1
