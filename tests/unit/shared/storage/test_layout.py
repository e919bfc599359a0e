"""Where things lie: names of collections, ids of images, and keys that are read back as they were written."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.storage import layout

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)


@given(NAMES)
def test_a_collection_may_have_any_name_of_the_characters_that_are_told(name: str) -> None:
    assert layout.collection_name(name) == name


@given(NAMES, st.integers(0, 2**40))
def test_the_regions_of_a_collection_have_a_name_that_no_collection_can_have(name: str, number: int) -> None:
    regions = layout.regions_of(name)
    with pytest.raises(Invalid):
        layout.collection_name(regions)
    assert layout.stored_name(regions) == regions
    assert layout.collection_with(regions) == name == layout.collection_with(name)
    set_name = layout.embedding_set_name(regions, number)
    assert layout.collection_of(set_name) == regions
    assert layout.number_of(set_name) == number
    assert layout.is_regions(set_name)
    assert layout.is_regions(regions)
    assert not layout.is_regions(name)
    assert layout.generation_of(layout.generation_key(set_name, 7)) == 7


@pytest.mark.parametrize("name", ["", "~regions", "art~regions~regions", "art~", "A~regions"])
def test_nothing_is_stored_under_another_name(name: str) -> None:
    with pytest.raises(Invalid):
        layout.stored_name(name)


def test_windows_of_an_image_have_ids_of_their_own_that_follow_from_its_digest() -> None:
    digest = layout.digest_of(b"a picture")
    ids = [layout.window_id(digest, number) for number in range(38)]
    assert len({*ids, layout.image_id(digest)}) == 39
    assert ids[3] == layout.image_id(hashlib.sha256(f"{digest}/3".encode()).hexdigest())
    assert all(0 < window < 2**53 for window in ids)


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "a b", "a/b", "../a", "a.json", "ä", "a\n", "a\x00", "a" * 64, "a:b"]
)
def test_another_name_is_refused_and_told(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        layout.collection_name(name)
    assert repr(name) in str(refused.value)
    assert "a-z" in str(refused.value)


@given(st.binary())
def test_the_id_of_an_image_is_the_first_53_bits_of_its_sha_256(data: bytes) -> None:
    digest = layout.digest_of(data)
    assert digest == hashlib.sha256(data).hexdigest()
    image = layout.image_id(digest)
    assert image == int(bin(int(digest, 16) | 1 << 256)[3:][:53], 2)
    assert 0 < image < 2**53
    assert int(float(image)) == image  # as a JSON number in any language


def test_no_image_has_the_id_0_which_would_mean_none() -> None:
    assert layout.image_id("0" * 64) == 1
    assert layout.image_id("f" * 64) == 2**53 - 1


@given(NAMES, NAMES, st.integers(1, 2**53 - 1), st.integers(1, 65_535))
def test_keys_are_read_back(collection: str, segment: str, image: int, generation: int) -> None:
    assert layout.segment_of(layout.segment_key(collection, segment)) == segment
    key = layout.tombstone_key(collection, segment, image)
    assert [layout.tombstone_of(other) for other in (key, f"{key}/x", f"{key}x")] == [(segment, image), None, None]
    listed = layout.tombstone_list_key(collection, segment, layout.digest_of(b""))
    assert [layout.tombstone_list_of(other) for other in (listed, f"{listed}/x", key)] == [segment, None, None]
    assert layout.tombstone_of(listed) is None
    assert listed.startswith(layout.tombstones_prefix(collection))
    assert layout.segment_key(collection, segment).startswith(layout.segments_prefix(collection))
    assert layout.tombstone_key(collection, segment, image).startswith(layout.tombstones_prefix(collection))
    key = layout.merge_key(collection, segment)
    assert key.startswith(layout.merges_prefix(collection))
    assert layout.segment_of(key) == f"{segment}.json"
    for key in (layout.generation_key(collection, generation), layout.current_index_key(collection)):
        assert key.startswith(layout.indexes_prefix(collection))


def test_a_listing_of_one_collection_holds_nothing_of_another_whose_name_begins_alike() -> None:
    for prefix in (layout.segments_prefix, layout.merges_prefix, layout.tombstones_prefix, layout.indexes_prefix):
        assert not prefix("art-2").startswith(prefix("art"))
    assert not layout.generation_key("art", 12).startswith(layout.indexes_prefix("art-1"))


def test_generations_are_listed_in_the_order_of_their_numbers() -> None:
    keys = [layout.generation_key("art", number) for number in (1, 9, 10, 99, 100, 65_535)]
    assert keys == sorted(keys)


@given(st.binary())
def test_the_originals_of_an_id_are_found_by_it(data: bytes) -> None:
    digest = layout.digest_of(data)
    prefix = layout.originals_prefix(layout.image_id(digest))
    assert layout.original_key(digest).startswith(prefix)
    assert len(prefix) == len("images/") + 13


@given(st.from_regex(r"[0-9a-f]{20}", fullmatch=True), st.integers(0, 10**6))
def test_a_segment_tells_its_batch_and_a_merged_one_that_it_has_none(job: str, batch: int) -> None:
    assert layout.batch_of(f"{job}-{batch:06d}") == (job, batch)
    assert not layout.is_merged(f"{job}-{batch:06d}")
    merged = layout.new_merged_segment()
    assert layout.is_merged(merged)
    assert layout.batch_of(merged) is None
    assert layout.batch_of("plain") is None
