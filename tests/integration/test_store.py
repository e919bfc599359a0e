"""The object store: bytes in, the same bytes out; what is missing, refused or away is told apart."""

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import Invalid, NotFound, ObjectNotFound, StoreMisconfigured, StoreUnavailable
from shared.settings import Settings
from shared.storage import layout, object_store
from shared.storage.catalog import Catalog, CurrentIndex, EmbeddingSet
from shared.storage.object_store import ObjectStore
from tests.support import rows
from tests.support.eventually import eventually
from tests.support.servers import Servers


@pytest.mark.parametrize("size", [0, 1, 100_000, 6 * 2**20])  # the last one is sent in parts
def test_what_is_put_is_got(store: ObjectStore, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    store.put("some/key", data)
    assert store.get("some/key") == data
    assert store.exists("some/key")
    assert [(item.key, item.size) for item in store.list("some/")] == [("some/key", size)]


@pytest.mark.parametrize("size", [0, 1, 1000, 1001, 2500, 3000])
def test_a_large_object_is_read_in_pieces(
    store: ObjectStore, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_PIECE", 1000)
    data = random.Random(size).randbytes(size)
    store.put("some/key", data)
    assert b"".join(store.stream("some/key")) == data
    store.download("some/key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    with pytest.raises(ObjectNotFound):
        store.download("no/such", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_PIECE", 1000)
    store.put("some/key", b"a" * 1500)
    parts = store.stream("some/key")
    assert next(parts) == b"a" * 1000
    store.put("some/key", b"b" * 1500)
    with pytest.raises(StoreUnavailable, match="replaced"):
        next(parts)


@pytest.mark.parametrize("size", [0, 1, 6 * 2**20])
def test_a_file_that_changes_while_it_is_uploaded_is_not_stored(store: ObjectStore, size: int) -> None:
    data = random.Random(size).randbytes(size)
    digest = layout.digest_of(data)
    store.upload_checked("whole", io.BytesIO(data + b"more"), size, digest)
    assert store.get("whole") == data
    others = [b"", data[:-1] + b"another"] if size else []
    for key in ("whole", "none"):
        for other in others:
            with pytest.raises(OSError, match="changed while it was read"):
                store.upload_checked(key, io.BytesIO(other), size, digest)
        with pytest.raises(OSError, match="changed while it was read"):
            store.upload_checked(key, io.BytesIO(data), size, layout.digest_of(b"what it was before"))
        with pytest.raises(OSError, match="the disk fails") as failure:
            store.upload_checked(key, _Failing(), max(1, size), digest)
        assert not isinstance(failure.value, StoreUnavailable)
    assert store.get("whole") == data
    assert [item.key for item in store.list("")] == ["whole"]


class _Failing(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002 -- as files have it
        raise OSError("the disk fails")


def test_an_object_is_overwritten_whole(store: ObjectStore) -> None:
    store.put("key", b"a longer one")
    store.put("key", b"short")
    assert store.get("key") == b"short"


def test_what_is_missing_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound, match="no/such"):
        store.get("no/such")
    assert not store.exists("no/such")
    assert list(store.list("no/")) == []
    store.delete(["no/such", "nor/this"])


def test_a_listing_goes_through_folders_in_the_order_of_the_keys(store: ObjectStore) -> None:
    keys = [f"deep/{place % 3}/{place:04}" for place in range(40)] + ["deep", "deeper/1"]
    for key in keys:
        store.put(key, b"")
    assert [item.key for item in store.list("deep/")] == sorted(key for key in keys if key.startswith("deep/"))


def test_a_part_of_an_object_is_read_by_itself(store: ObjectStore) -> None:
    store.put("key", bytes(range(100)))
    assert store.get("key", start=10, size=5) == bytes(range(10, 15))
    assert store.get("key", size=3) == bytes(range(3))
    assert store.get("key", start=95, size=50) == bytes(range(95, 100))
    assert store.get("key", start=100, size=5) == b""
    with pytest.raises(ObjectNotFound):
        store.get("other", start=1, size=1)


def test_a_listing_has_more_than_a_page(store: ObjectStore, servers: Servers) -> None:
    """A page of S3 has a thousand keys."""
    keys = [f"many/{place:05}" for place in range(1100)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: store.put(key, b""), keys))
    assert [item.key for item in store.list("many/")] == keys
    store.delete(keys)
    assert list(ObjectStore.from_settings(servers.settings).list("many/")) == []


def test_the_bucket_is_made_once(store: ObjectStore) -> None:
    store.ensure_bucket()
    store.put("key", b"kept")
    store.ensure_bucket()
    assert store.get("key") == b"kept"


def test_a_bucket_that_is_not_there_is_told_and_nothing_counts_as_missing(servers: Servers) -> None:
    """A reader that took what is in a lost bucket for deleted would throw away its copy."""
    other = ObjectStore.from_settings(_with(servers.settings, s3_bucket="never-made"))
    for call in (lambda: list(other.list("")), lambda: other.get("key"), lambda: other.delete(["key"])):
        with pytest.raises(StoreMisconfigured, match=r"NoSuchBucket.*ARTSEEK_S3_BUCKET"):
            call()


def test_wrong_keys_are_told_with_the_settings_that_hold_them(servers: Servers) -> None:
    stranger = ObjectStore.from_settings(_with(servers.settings, s3_secret_key="wrong"))
    for call in (lambda: stranger.get("key"), lambda: stranger.put("key", b""), lambda: list(stranger.list(""))):
        with pytest.raises(StoreMisconfigured, match="ARTSEEK_S3_SECRET_KEY"):
            call()


def test_a_killed_store_is_unavailable_and_has_everything_when_it_is_back(servers: Servers, store: ObjectStore) -> None:
    written = {f"key/{place}": str(place).encode() * 1000 for place in range(20)}
    for key, data in written.items():
        store.put(key, data)
    servers.objects.kill()
    for call in (
        lambda: store.get("key/1"),
        lambda: store.put("key/x", b""),
        lambda: store.exists("key/1"),
        lambda: store.delete(["key/1"]),
        lambda: list(store.list("")),
        store.ensure_bucket,
    ):
        with pytest.raises(StoreUnavailable):
            call()
    servers.objects.start()
    assert {key: _patiently(store, key) for key in [item.key for item in store.list("key/")]} == written


def _patiently(store: ObjectStore, key: str) -> bytes:
    """Get an object from a store that was started a moment ago: it may be unavailable, but not say it is gone."""
    return eventually(lambda: store.get(key), until=lambda _: True, trying=StoreUnavailable)


# The catalog


def test_a_collection_is_created_once(store: ObjectStore) -> None:
    catalog = Catalog(store)
    with pytest.raises(NotFound, match="'art'"):
        catalog.get("art")
    made = catalog.create("art", model="lite", version=2, dim=8)
    assert catalog.create("art", model="other", version=3, dim=9) == made == catalog.get("art")
    assert (made.model, made.version, made.dim) == ("lite", 2, 8)
    assert len(bytes.fromhex(made.tag)) == 4
    assert catalog.create("music", model="lite", version=2, dim=8).tag != made.tag
    assert catalog.names() == ["art", "music"]
    regions = catalog.create(layout.regions_of("art"), model="lite", version=2, dim=8)
    assert catalog.get("art~regions") == regions == catalog.embedding_set("art~regions")
    assert catalog.names() == ["art", "music"]
    assert catalog.stored_names() == ["art", "art~regions", "music"]


def test_a_name_that_does_not_fit_is_refused_before_the_store_is_asked(store: ObjectStore) -> None:
    for call in (Catalog(store).get, lambda name: Catalog(store).create(name, model="lite", version=1, dim=1)):
        with pytest.raises(Invalid):
            call("../art")


def test_a_broken_manifest_is_named(store: ObjectStore) -> None:
    for broken in (b"", b"{", b"[]", b'{"name": "art"}'):
        store.put("collections/art.json", broken)
        with pytest.raises(Invalid, match=r"collections/art\.json"):
            Catalog(store).get("art")


def test_segments_dead_rows_and_generations_of_a_collection_are_listed_and_dropped(store: ObjectStore) -> None:
    catalog = Catalog(store)
    art, other = (catalog.create(name, model="lite", version=1, dim=4) for name in ("art", "art-2"))
    for collection in (art, other):
        _write(store, collection, "b", "a")
    catalog.add_tombstones("art", [("a", 5), ("b", 2**53 - 1), ("a", 5)])
    assert catalog.segments("art") == ["a", "b"]
    assert catalog.tombstones("art") == {("a", 5), ("b", 2**53 - 1)}
    assert catalog.tombstones("art-2") == set()
    assert catalog.current_index("art") is None
    assert catalog.next_generation("art") == 1
    for generation in (9, 10):
        store.put(f"indexes/art/{generation:06}.npz", b"")
    catalog.set_current_index("art", CurrentIndex(9, 1234))
    assert catalog.current_index("art") == CurrentIndex(9, 1234)
    assert catalog.next_generation("art") == 11
    catalog.set_current_index("art", CurrentIndex(12, 1234))  # which is missing
    assert catalog.next_generation("art") == 13
    assert catalog.next_generation("art-2") == 1

    art = catalog.get("art")
    assert sorted(catalog.drop(art)) == ["a", "b"]
    assert {item.key for item in store.list("")} - {".ready"} == {
        "collections/art-2.json",
        "vectors/art-2/a.arrow",
        "vectors/art-2/b.arrow",
    }
    assert catalog.drop(art) == []


def _write(store: ObjectStore, embedding_set: EmbeddingSet, *names: str) -> None:
    for name in names:
        store.put(f"vectors/{embedding_set.collection}/{name}.arrow", rows.segment([1], embedding_set))


def _with(settings: Settings, **changes: str) -> Settings:
    return Settings.model_validate(settings.model_dump() | changes)
