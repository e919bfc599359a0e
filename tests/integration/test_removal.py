"""Collections and evaluations that somebody removes, by the API, the pages and the command: nothing of them is left."""

import hashlib
import re
from urllib.parse import urlencode

import pytest

from shared.errors import Locked, NotFound
from shared.evaluation import removal
from shared.evaluation.evaluations import Evaluations
from shared.evaluation.query_sets import LabelledQuery, QuerySet, QuerySets
from shared.evaluation.removal import remove_evaluation
from shared.state import Client as Redis
from shared.state import State
from shared.state.locks import evaluation_lock
from shared.storage import access_layout, evaluation_layout, layout
from shared.storage.kept_queries import KeptQueries
from shared.storage.object_store import ObjectStore
from tests.support.evaluation_reports import a_report, a_run
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, Reply, picture

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def objects(stack: Stack) -> ObjectStore:
    return ObjectStore.from_settings(stack.settings)


def post(client: Client, path: str, **fields: str) -> Reply:
    return client.send("POST", path, body=urlencode(fields).encode(), headers=FORM)


def is_gone(client: Client, name: str) -> bool:
    return client.call("GET /collections/{name}", name=name).status == 404


def an_evaluation(client: Client, sample: int = 8) -> str:
    asked = {"collection": "default", "sample": sample, "k": 5, "seed": 3}
    return str(client.call("POST /evaluations", value=asked).json["job"])


# Collections


def test_a_deleted_collection_is_gone_with_what_no_other_holds(client: Client, objects: ObjectStore) -> None:
    alone, shared = picture(810), picture(811)
    client.upload("web-drops", [("alone.png", alone), ("shared.png", shared)])
    client.upload("web-drops-not", [("shared.png", shared)])
    objects.put(access_layout.collection_access_key("web-drops"), b'{"visibility": "public", "originals": "public"}')
    KeptQueries(objects).keep("web-drops", b"a picture that was searched for", "mine.jpg")
    reply = client.call("DELETE /collections/{name}", name="web-drops")
    if reply.status == 202:  # on a busy machine
        client.finished(reply.json["job"])
    else:
        assert reply.status == 204
    eventually(lambda: is_gone(client, "web-drops"))
    assert client.call("DELETE /collections/{name}", name="web-drops").status == 404
    keys = {item.key for item in objects.list("")}
    assert not [key for key in keys if "/web-drops/" in key or "/web-drops." in key]
    originals = {layout.original_key(hashlib.sha256(data).hexdigest()) for data in (alone, shared)}
    assert originals & keys == {layout.original_key(hashlib.sha256(shared).hexdigest())}


def test_the_page_deletes_a_collection_whose_name_was_typed(client: Client) -> None:
    client.upload("web-typed", [("a.png", picture(812))])
    page = client.send("GET", "/collections/web-typed").body.decode()
    (address,) = re.findall(r'action="(/collections/web-typed/delete)" method="post"', page)
    for typed in ("", "web-type", "default"):
        refused = post(client, address, typed=typed)
        assert refused.status == 422
        assert "nothing was deleted" in refused.body.decode()
    assert not is_gone(client, "web-typed")
    assert post(client, "/collections/web-never-was/delete", typed="web-never-was").status == 404
    foreign = {**FORM, "Origin": "http://elsewhere.example"}
    assert client.send("POST", address, body=b"typed=web-typed", headers=foreign).status == 403
    reply = post(client, address, typed=" web-typed ")
    assert (reply.status, reply.headers["Location"].partition("?")[0]) == (303, "/collections")
    eventually(lambda: is_gone(client, "web-typed"))


def test_the_command_deletes_a_collection(stack: Stack, client: Client) -> None:
    client.upload("web-commanded", [("a.png", picture(813))])
    stack.artseek("collections", "delete", "web-commanded", check=False)  # nobody there to type the name
    assert not is_gone(client, "web-commanded")
    assert "web-commanded" in stack.artseek("collections", "--json")
    assert '"deleted": 1' in stack.artseek("collections", "delete", "web-commanded", "--yes", "--json")
    eventually(lambda: is_gone(client, "web-commanded"))


# Other names


def search(client: Client, name: str) -> list[tuple[int, float]]:
    query = client.call("GET /collections/{name}/images", name=name).json["images"][0]["id"]
    asked = {"id": query, "k": 3, "mode": "exact"}
    hits = client.call("POST /collections/{name}/search", name=name, value=asked).json["hits"]
    return [(hit["id"], hit["score"]) for hit in hits]


def test_a_renamed_collection_answers_as_before_under_its_new_name(client: Client, stack: Stack) -> None:
    files = [(f"{number}.png", picture(820 + number)) for number in range(4)]
    client.upload("web-old", files, label="shapes")
    client.upload("web-taken", files[:1])
    trashed = client.call("GET /collections/{name}/images", name="web-old").json["images"][-1]["id"]
    assert client.call("DELETE /collections/{name}/images/{id}", name="web-old", id=trashed).status == 204
    before = search(client, "web-old")
    for name, status in (("web-taken", 409), ("Not a name", 422), ("web-old", 409)):
        assert client.call("PATCH /collections/{name}", name="web-old", value={"name": name}).status == status
    reply = client.call("PATCH /collections/{name}", name="web-old", value={"name": "web-new"})
    if reply.status == 202:  # on a busy machine
        client.finished(reply.json["job"])
    else:
        assert (reply.status, reply.json["name"], reply.json["images"]) == (200, "web-new", 3)
    eventually(lambda: is_gone(client, "web-old"))
    assert search(client, "web-new") == before
    trash = client.call("GET /collections/{name}/trash", name="web-new").json
    assert [image["id"] for image in trash["images"]] == [trashed]
    for call in ("GET /collections/{name}", "GET /collections/{name}/trash", "GET /collections/{name}/images"):
        missing = client.call(call, name="web-old")
        assert (missing.status, "'web-new'" in missing.json["detail"]) == (404, True)
    page = client.send("GET", "/collections/web-old/trash?page=1")
    assert page.body.decode().count("web-new")
    assert "web-new" in client.send("GET", "/collections/web-old").body.decode()
    stack.artseek("collections", "rename", "web-new", "web-newer")
    eventually(lambda: is_gone(client, "web-new"))
    assert search(client, "web-newer") == before
    assert "'web-newer'" in client.call("GET /collections/{name}", name="web-old").json["detail"]
    client.upload("web-old", files[:1])  # the name is free
    assert client.call("GET /collections/{name}", name="web-old").json["images"] == 1


def test_the_page_renames_a_collection(client: Client) -> None:
    client.upload("web-paged", [("a.png", picture(830))])
    page = client.send("GET", "/collections/web-paged").body.decode()
    (address,) = re.findall(r'action="(/collections/web-paged/rename)" method="post"', page)
    for name, status in (("", 422), ("Pa ged", 422), ("web-paged", 409)):
        refused = post(client, address, new=name)
        assert (refused.status, 'id="rename-problem"' in refused.body.decode()) == (status, True)
    assert post(client, "/collections/web-never-was/rename", new="web-any").status == 404
    assert post(client, address, new=" removal-page ").status == 303
    eventually(lambda: not is_gone(client, "removal-page"))


# Evaluations


def test_a_deleted_evaluation_is_gone(client: Client, stack: Stack, objects: ObjectStore) -> None:
    by_api, by_page, by_command = (an_evaluation(client) for _ in range(3))
    for evaluation in (by_api, by_page, by_command):
        client.finished(evaluation)
    assert client.call("DELETE /evaluations/{id}", id=by_api).status == 204
    page = client.send("GET", f"/evaluations/default/{by_page}").body.decode()
    (address,) = re.findall(rf'action="(/evaluations/default/{by_page}/delete)" method="post"', page)
    assert post(client, address).status == 303
    stack.artseek("evaluate", "--delete", by_command)
    for evaluation in (by_api, by_page, by_command):
        assert client.call("GET /evaluations/{id}", id=evaluation).status == 404
        assert client.call("DELETE /evaluations/{id}", id=evaluation).status == 404
        assert not [item.key for item in objects.list("") if evaluation in item.key]


def test_an_evaluation_under_way_is_cancelled_first(client: Client, objects: ObjectStore) -> None:
    evaluation = an_evaluation(client, sample=60)
    assert client.call("DELETE /evaluations/{id}", id=evaluation).status in {202, 204}
    eventually(lambda: client.call("GET /jobs/{id}", id=evaluation).json["state"] in {"cancelled", "done"})
    eventually(lambda: not [item.key for item in objects.list("") if evaluation in item.key])
    assert client.call("GET /evaluations/{id}", id=evaluation).status == 404


def test_query_sets_go_with_the_last_evaluation_that_used_them(
    store: ObjectStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensure_bucket()
    state = State.of(redis)
    sets, evaluations = QuerySets(store, state), Evaluations(store)
    queries = QuerySet.of([LabelledQuery("1" * 64, "a.png", "forms", 3)])
    store.put(evaluation_layout.query_key("1" * 64), b"png")
    for evaluation in ("first", "second"):
        sets.add(queries, user=evaluation)
        evaluations.put("art", a_report([a_run("exact-cosine-all")], id=evaluation), b"rows")
        store.put(evaluation_layout.evaluating_prefix(evaluation) + "copies0.json", b"{}")
    remove_evaluation(store, state, "first")
    assert not [item.key for item in store.list("") if "first" in item.key]
    assert sets.get(queries.digest) == queries
    monkeypatch.setattr(removal, "_WAIT_S", 0.0)
    with state.locks.hold(evaluation_lock("second")), pytest.raises(Locked):
        remove_evaluation(store, state, "second")
    store.put(evaluation_layout.evaluation_key("art", "second"), b'{"format": 99}')  # one that cannot be read goes too
    remove_evaluation(store, state, "second")
    assert [item.key for item in store.list("") if not item.key.startswith(".")] == []
    with pytest.raises(NotFound):
        remove_evaluation(store, state, "second")
