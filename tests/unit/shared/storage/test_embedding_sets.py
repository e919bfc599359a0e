"""Names of spaces and their keys; a manifest without a number; a segment's model."""

import json
from typing import Any

import pytest

from shared.errors import Invalid
from shared.storage import layout, segments
from shared.storage.catalog import Collection
from tests.support import rows


def test_the_first_space_has_the_collection_s_name_and_keys() -> None:
    manifest = '{"name": "art", "tag": "0011aabb", "model": "lite", "version": 1, "dim": 8, "created": 1.0}'
    written: dict[str, Any] = json.loads(manifest)  # as before there were spaces
    first = Collection(**written)
    assert (first.number, first.space) == (0, "art")
    later = Collection(**written, number=2)
    assert later.space == "art.2"
    assert layout.segment_key(later.space, "s") == "vectors/art.2/s.arrow"
    assert layout.generation_of(layout.generation_key(later.space, 7)) == 7
    assert layout.generation_of(layout.generation_report_key(first.space, 7)) == 7
    assert layout.deleted_of(layout.deleted_key(later.space, "s", 5)) == ("s", 5)


@pytest.mark.parametrize(
    ("space", "name", "number"), [("art", "art", 0), ("art.12", "art", 12), ("a-1_b.3", "a-1_b", 3)]
)
def test_a_space_names_its_collection_and_number(space: str, name: str, number: int) -> None:
    assert (layout.collection_of(space), layout.number_of(space)) == (name, number)
    assert layout.space_name(name, number) == space
    assert layout.space_key(space).startswith(layout.spaces_prefix(name))
    assert not layout.space_key(space).startswith(layout.spaces_prefix(f"{name}-2"))


def test_nobody_can_name_a_space() -> None:
    with pytest.raises(Invalid, match=r"'art\.1' cannot name a collection"):
        layout.collection_name("art.1")


@pytest.mark.parametrize(("model", "version"), [("lite", 2), ("lite2", 1), ("", 1)])
def test_a_segment_is_of_one_model_version(model: str, version: int) -> None:
    batch = segments.unpack(rows.segment([1, 2], Collection("art", "00112233", "lite", 1, 8, 0.0)))
    segments.check_model(batch, model="lite", version=1)
    with pytest.raises(Invalid, match="'lite' version 1, the collection's"):
        segments.check_model(batch, model=model, version=version)
