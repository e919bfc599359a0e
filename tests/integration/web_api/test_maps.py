"""The map of a collection by the REST API."""

import pytest

from tests.support.eventually import eventually
from tests.support.web_client import Client, picture

NAME = "web-api-map"
MAP = "GET /collections/{name}/map"
VALUES = "GET /collections/{name}/map/values"


@pytest.fixture(scope="module")
def ids(client: Client) -> list[int]:
    """The ids of a mapped collection."""
    for label, numbers in (("shapes", range(600, 608)), ("forms", range(608, 612))):
        client.upload(NAME, [(f"{number}.jpg", picture(number)) for number in numbers], label=label)
    entries = client.wait_for(NAME, 12)
    assert client.call(MAP, name=NAME).status == 404
    made = client.call("POST /collections/{name}/map", name=NAME)
    assert made.status == 202
    assert made.headers["Location"] == made.json["url"]
    assert client.finished(made.json["job"])["affected"] == 12
    return [entry["id"] for entry in entries]


def test_a_map_says_where_the_images_lie(client: Client, ids: list[int]) -> None:
    reply = client.call(MAP, name=NAME)
    found = reply.json
    assert found["ids"] == sorted(ids)
    assert (found["fitted"], found["missing"]) == (12, 0)
    places = [*found["x"], *found["y"]]
    assert len(places) == 24
    assert (min(places), max(places)) == (0, 65_535)
    again = client.call(MAP, name=NAME, headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


def test_values_of_a_field_come_in_the_order_of_the_map(client: Client, ids: list[int]) -> None:
    labels = {entry["id"]: entry["label"] for entry in client.wait_for(NAME, 12)}
    found = client.call(VALUES, name=NAME).json
    assert (found["field"], found["values"], found["counts"]) == ("label", ["shapes", "forms"], [8, 4])
    assert [found["values"][place] for place in found["of"]] == [labels[image] for image in sorted(ids)]
    edit = {"fields": {"creator": ["Ann"]}}
    client.call("PATCH /collections/{name}/images/{id}", name=NAME, id=ids[0], value=edit)
    creators = eventually(
        lambda: client.call(VALUES, name=NAME, query={"field": "creator"}).json, until=lambda found: found["values"]
    )
    assert (creators["values"], creators["counts"]) == (["Ann"], [1])
    assert creators["of"] == [0 if image == ids[0] else -1 for image in sorted(ids)]
    assert client.call(VALUES, name=NAME, query={"field": "no such"}).status == 422
    assert client.call(VALUES, name="web-api-none").status == 404


def test_deleted_images_are_not_on_the_map_and_new_ones_are_missing_until_they_are_placed(
    client: Client, ids: list[int]
) -> None:
    before = client.call(MAP, name=NAME).json
    gone = before["ids"][3]
    assert client.call("DELETE /collections/{name}/images/{id}", name=NAME, id=gone).status in {202, 204}
    client.wait_for(NAME, 11)
    left = client.call(MAP, name=NAME).json
    assert left["ids"] == [image for image in sorted(ids) if image != gone]
    client.upload(NAME, [("new.jpg", picture(650))])
    client.wait_for(NAME, 12)
    assert client.call(MAP, name=NAME).json["missing"] == 1
    placed = client.call("POST /collections/{name}/map", name=NAME).json
    assert client.finished(placed["job"])["affected"] == 12
    after = client.call(MAP, name=NAME).json
    assert (after["missing"], after["fitted"]) == (0, 11)
    where = {image: (x, y) for image, x, y in zip(after["ids"], after["x"], after["y"], strict=True)}
    for image, x, y in zip(left["ids"], left["x"], left["y"], strict=True):
        assert where[image] == (x, y)
