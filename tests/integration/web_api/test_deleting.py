"""Deletion by the REST API, the trash and collections."""

import hashlib
import time

from shared.storage import layout
from shared.storage.layout import image_id
from shared.storage.object_store import ObjectStore
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import SEARCH, Client, picture


def test_a_deleted_image_is_gone_at_once(client: Client) -> None:
    first, second = picture(201), picture(202)
    client.upload("web-deletes", [("first.jpg", first), ("second.jpg", second)])
    image = image_id(hashlib.sha256(first).hexdigest())
    begun = time.monotonic()
    reply = client.call("DELETE /collections/{name}/images/{id}", name="web-deletes", id=image)
    if reply.status == 202:  # on a busy machine, after the time for which the answer is held back
        assert time.monotonic() - begun >= 5.0
        client.finished(reply.json["job"])
        eventually(lambda: client.call("GET /collections/{name}", name="web-deletes").json["images"] == 1)
    else:
        assert reply.status == 204
    for leaf in ("", "/original", "/thumbnail"):
        gone = client.call("GET /collections/{name}/images/{id}" + leaf, name="web-deletes", id=image)
        assert gone.status == 404
    for mode in ("lsh", "exact"):
        fields = [("image", ("q.jpg", first)), ("mode", mode)]
        hits = client.call(SEARCH, name="web-deletes", fields=fields).json["hits"]
        assert image not in [hit["id"] for hit in hits]
    assert client.call("DELETE /collections/{name}/images/{id}", name="web-deletes", id=image).status == 404
    assert client.call("GET /collections/{name}", name="web-deletes").json["images"] == 1


def test_a_deleted_image_is_in_the_trash_and_comes_back_and_a_purged_one_is_gone_for_good(
    client: Client, stack: Stack
) -> None:
    name = "web-trash"
    pictures = [picture(seed) for seed in (211, 212, 213)]
    client.upload(name, [(f"{number}.jpg", data) for number, data in enumerate(pictures)], label="kept")
    ids = [image_id(hashlib.sha256(data).hexdigest()) for data in pictures]
    client.wait_for(name, 3)
    before = client.call("GET /collections/{name}/images/{id}", name=name, id=ids[0]).json
    reply = client.call("POST /collections/{name}/delete", name=name, value={"ids": [*ids[:2], 12345]})
    assert reply.status == 202
    assert client.finished(reply.json["job"])["affected"] == 2
    trash = client.call("GET /collections/{name}/trash", name=name).json
    assert (trash["total"], {image["id"] for image in trash["images"]}) == (2, set(ids[:2]))
    page = client.call("GET /collections/{name}/trash", name=name, query={"limit": 1, "offset": 1}).json
    assert [image["id"] for image in page["images"]] == [trash["images"][1]["id"]]
    trashed = next(image for image in trash["images"] if image["id"] == ids[0])
    assert (trashed["name"], trashed["label"], trashed["added"]) == ("0.jpg", "kept", before["added"])
    assert trashed["deleted"] < trashed["expires"]
    thumbnail = "GET /collections/{name}/trash/{id}/thumbnail"
    assert client.call(thumbnail, name=name, id=ids[0]).kind == "image/jpeg"
    # Back again, as it was.
    restored = client.call("POST /collections/{name}/trash/{id}/restore", name=name, id=ids[0])
    assert restored.status == 202
    assert client.finished(restored.json["job"])["added"] == 1
    client.wait_for(name, 2)
    assert client.call("GET /collections/{name}/images/{id}", name=name, id=ids[0]).json == before
    assert client.call("GET /collections/{name}/trash", name=name).json["total"] == 1
    assert client.call("POST /collections/{name}/trash/{id}/restore", name=name, id=ids[0]).status == 404
    # For good: what is in the trash, and what is in the collection.
    for image in ids[1:]:
        purged = client.call("DELETE /collections/{name}/images/{id}", name=name, id=image, query={"purge": "true"})
        if purged.status == 202:
            client.finished(purged.json["job"])
        else:
            assert purged.status == 204
        assert client.call(thumbnail, name=name, id=image).status == 404
    assert client.call("GET /collections/{name}/trash", name=name).json["total"] == 0
    store = ObjectStore.from_settings(stack.settings)
    for data, there in zip(pictures, (True, False, False), strict=True):
        digest = hashlib.sha256(data).hexdigest()
        assert store.exists(layout.original_key(digest)) == there
        assert there or not [item.key for item in store.list("") if digest in item.key]
    for query in ({"purge": "yes"}, {"purge": "1"}):
        assert client.call("DELETE /collections/{name}/images/{id}", name=name, id=ids[0], query=query).status == 422
    wrong: list[dict[str, object]] = [{"ids": []}, {"ids": [1] * 10_001}, {"ids": [1], "purge": "true"}, {}]
    for body in wrong:
        assert client.call("POST /collections/{name}/delete", name=name, value=body).status == 422
    assert client.call("POST /collections/{name}/delete", name="web-nowhere", value={"ids": [1]}).status == 404
    assert client.call("GET /collections/{name}/trash", name="web-nowhere").status == 404


def test_collections_tell_what_is_in_them(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    found = client.call("GET /collections/{name}", name="web-api").json
    assert (found["images"], found["labelled"], found["classes"]) == (6, 6, {"shapes": 6})
    assert found["bytes"] == sum(len(data) for _, data in known.values())
    assert (found["model"], found["dim"]) == ("efficientnet-lite0", 1280)
    assert found in client.call("GET /collections").json["collections"]
