"""Names of embedding sets and their keys, and the model of a segment."""

from dataclasses import replace

import pytest

from shared.errors import Invalid
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from tests.support import rows


def test_the_first_embedding_set_has_the_name_of_its_collection() -> None:
    first = EmbeddingSet("art", "0011aabb", "lite", 1, 8, 1.0)
    assert (first.number, first.name) == (0, "art")
    later = replace(first, number=2)
    assert later.name == "art.2"
    assert layout.segment_key(later.name, "s") == "vectors/art.2/s.arrow"
    assert layout.generation_of(layout.generation_key(later.name, 7)) == 7
    assert layout.generation_of(layout.generation_report_key(first.name, 7)) == 7
    assert layout.tombstone_of(layout.tombstone_key(later.name, "s", 5)) == ("s", 5)
    assert layout.tombstone_list_of(layout.tombstone_list_key(later.name, "s", "0" * 64)) == "s"


@pytest.mark.parametrize(
    ("set_name", "collection", "number"), [("art", "art", 0), ("art.12", "art", 12), ("a-1_b.3", "a-1_b", 3)]
)
def test_the_name_of_an_embedding_set_tells_its_collection_and_number(
    set_name: str, collection: str, number: int
) -> None:
    assert (layout.collection_of(set_name), layout.number_of(set_name)) == (collection, number)
    assert layout.embedding_set_name(collection, number) == set_name
    assert layout.embedding_set_key(set_name).startswith(layout.embedding_sets_prefix(collection))
    assert not layout.embedding_set_key(set_name).startswith(layout.embedding_sets_prefix(f"{collection}-2"))


def test_no_collection_can_have_the_name_of_an_embedding_set() -> None:
    with pytest.raises(Invalid, match=r"'art\.1' cannot name a collection"):
        layout.collection_name("art.1")


@pytest.mark.parametrize(("model", "version"), [("lite", 2), ("lite2", 1), ("", 1)])
def test_a_segment_is_of_one_model_version(model: str, version: int) -> None:
    batch = segments.unpack(rows.segment([1, 2], EmbeddingSet("art", "00112233", "lite", 1, 8, 0.0)))
    segments.check_model(batch, model="lite", version=1)
    with pytest.raises(Invalid, match="'lite' version 1, the collection's"):
        segments.check_model(batch, model=model, version=version)
