"""`artseek sync` on a running system, beside the servers and from another machine."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.storage.layout import digest_of
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.forked_command import run_command
from tests.support.paths import ROOT
from tests.support.processes import bare_environment
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

NAME = "in-step"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two classes, with odd names, and what is none."""
    made = tmp_path / "photos"
    for label in ("circles", "wäves"):
        (made / label).mkdir(parents=True)
        for number in range(5):
            (made / label / f"{number}.jpg").write_bytes(picture(40_000 + 10 * len(label) + number))
    (made / "a\nb \u202egpj.jpg").write_bytes(picture(40_200))
    (made / ("n" * 251 + ".jpg")).write_bytes(picture(40_201))
    (made / "circles" / ("\u202ebroken" + "x" * 230 + ".jpg")).write_bytes(b"\xff\xd8\xff")
    (made / ".DS_Store").write_bytes(b"x")
    return made


@pytest.fixture
def collection(stack: Stack) -> Iterator[str]:
    yield NAME
    stack.artseek("delete", "--collection", NAME, "--whole-collection")


def counts(answer: dict[str, Any]) -> dict[str, int]:
    names = ("new", "changed", "moved", "vanished", "unchanged", "skipped", "rejected", "embedded", "trashed")
    return {name: answer[name] for name in names if answer[name]}


def test_a_collection_is_kept_in_step_from_two_machines(
    stack: Stack, folder: Path, collection: str, tmp_path: Path
) -> None:
    beside = bare_environment(ARTSEEK_DATA=str(stack.data), XDG_CACHE_HOME=str(tmp_path / "beside"))
    afar = bare_environment(
        ARTSEEK_DATA="/nonexistent",
        ARTSEEK_INDEX_URL="redis://127.0.0.1:1/0",
        ARTSEEK_URL=stack.url,
        XDG_CACHE_HOME=str(tmp_path / "afar"),
    )

    def synchronised(environment: dict[str, str], *options: str, status: int = 3) -> dict[str, int]:
        arguments = ("sync", str(folder), "--collection", collection, "--labels-from-folders", "--json", *options)
        found, printed, told = run_command(arguments, environment, timeout_s=PATIENCE_S)
        assert found == status, told
        return counts(json.loads(printed)) if printed else {}

    assert synchronised(afar) == {"new": 12, "skipped": 1, "rejected": 1, "embedded": 12}
    assert synchronised(beside) == {"unchanged": 12, "skipped": 1, "rejected": 1}
    (folder / "wäves").rename(folder / "lines")
    (folder / "circles" / "0.jpg").rename(folder / "lines" / "zero.jpg")
    shutil.copy(folder / "circles" / "1.jpg", folder / "lines" / "one.jpg")
    (folder / "circles" / "2.jpg").write_bytes(picture(40_300))
    (folder / "circles" / "3.jpg").unlink()
    wanted = {"new": 1, "changed": 1, "moved": 6, "vanished": 1, "unchanged": 4, "skipped": 1, "rejected": 1}
    assert synchronised(beside, "--dry-run") == {**wanted, "embedded": 1}
    assert synchronised(beside) == {**wanted, "embedded": 1}
    assert synchronised(afar) == {"unchanged": 12, "skipped": 1, "rejected": 1}
    client = Client(stack.url)
    query = {"limit": 100}
    images = client.call("GET /collections/{name}/images", name=collection, query=query).json["images"]
    by_name = {image["name"]: image for image in images}
    assert by_name["lines/zero.jpg"]["labels"] == ["lines"]
    assert by_name["circles/1.jpg"]["labels"] == ["circles", "lines"]
    both = client.call("GET /collections/{name}/images/{id}", name=collection, id=by_name["circles/1.jpg"]["id"]).json
    assert both["paths"] == ["circles/1.jpg", "lines/one.jpg"]
    assert synchronised(afar, "--prune")["trashed"] == 2  # the deleted file, and what was replaced
    trash = client.call("GET /collections/{name}/trash", name=collection).json
    assert trash["total"] == 2
    assert synchronised(beside, "--prune") == {"unchanged": 12, "skipped": 1, "rejected": 1}
    shutil.rmtree(folder / "lines")
    assert synchronised(beside, status=1) == {}
    assert client.call("GET /collections/{name}", name=collection).json["images"] == 11


def test_a_file_that_is_added_once_more_is_another_path_and_its_label_is_the_newer_one(
    stack: Stack, collection: str, tmp_path: Path
) -> None:
    environment = bare_environment(ARTSEEK_DATA=str(stack.data), XDG_CACHE_HOME=str(tmp_path / "cache"))
    client, data, other = Client(stack.url), picture(41_000), picture(41_001)
    paths = [tmp_path / name for name in ("in-step/boats/a.jpg", "later/trees/b.jpg", "later/trees/c.jpg")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "in-step" / "boats" / "other.jpg").write_bytes(other)
    into = ("--collection", collection, "--labels-from-folders")

    def run(*arguments: str) -> None:
        status, _, told = run_command(arguments, environment, timeout_s=PATIENCE_S)
        assert status == 0, told

    def seen() -> tuple[list[str], list[str]]:
        (held,) = (image for image in client.wait_for(collection, 2) if image["digest"] == digest_of(data))
        shown = client.call("GET /collections/{name}/images/{id}", name=collection, id=held["id"]).json
        return shown["labels"], sorted(shown["paths"])

    run("sync", str(tmp_path / "in-step"), *into)
    (tmp_path / "in-step" / "boats").rename(tmp_path / "in-step" / "ships")
    run("sync", str(tmp_path / "in-step"), *into)
    eventually(lambda: seen() == (["ships"], ["ships/a.jpg"]))
    run("ingest", str(tmp_path / "later"), *into, "--keep-labels")
    eventually(lambda: seen() == (["ships"], ["ships/a.jpg", "trees/b.jpg", "trees/c.jpg"]))
    run("ingest", str(tmp_path / "later"), *into)
    eventually(lambda: seen()[0] == ["trees"])
    run("sync", str(tmp_path / "in-step"), *into)  # in which nothing is new
    shutil.copytree(tmp_path / "in-step", tmp_path / "copy")
    run("ingest", str(tmp_path / "copy"), "--collection", collection)
    client.upload(collection, [("again.jpg", data), ("other.jpg", other)])
    known = ["again.jpg", "ships/a.jpg", "trees/b.jpg", "trees/c.jpg"]
    eventually(lambda: seen() == (["trees"], known))
    answer = client.call("GET /collections/{name}/paths", name=collection).json["images"]
    sources = {path["path"]: path["source"] for one in answer for path in one["paths"] if path["state"] == "present"}
    assert sources["trees/b.jpg"] == str(tmp_path / "later")  # where a sync of that folder finds it
    assert sources["again.jpg"] == ""
    of_ships = {path["source"] for one in answer for path in one["paths"] if path["path"] == "ships/a.jpg"}
    assert of_ships == {str(tmp_path / "in-step"), str(tmp_path / "copy")}


@pytest.mark.parametrize("where", ["beside", "afar"])
def test_an_image_that_was_uploaded_too_is_not_pruned_in_whichever_order(
    stack: Stack, collection: str, tmp_path: Path, where: str
) -> None:
    places = {
        "beside": {"ARTSEEK_DATA": str(stack.data)},
        "afar": {
            "ARTSEEK_DATA": "/nonexistent",
            "ARTSEEK_INDEX_URL": "redis://127.0.0.1:1/0",
            "ARTSEEK_URL": stack.url,
        },
    }
    environment = bare_environment(**places[where], XDG_CACHE_HOME=str(tmp_path / "cache"))
    client, folder = Client(stack.url), tmp_path / "photos"
    first, second, alone, left = (picture(43_000 + 10 * len(where) + number) for number in range(4))
    folder.mkdir()
    for name, data in {"a.jpg": first, "b.jpg": second, "a\nb \u202egpj.jpg": alone, "d.jpg": left}.items():
        (folder / name).write_bytes(data)

    def synchronised(*options: str) -> dict[str, int]:
        arguments = ("sync", str(folder), "--collection", collection, "--json", *options)
        status, printed, told = run_command(arguments, environment, timeout_s=PATIENCE_S)
        assert status == 0, told
        return counts(json.loads(printed))

    client.upload(collection, [("x.jpg", first)])
    assert synchronised() == {"new": 4, "embedded": 3}
    client.upload(collection, [("y.jpg", second)])
    for path in folder.iterdir():
        if path.name != "d.jpg":
            path.unlink()
    assert synchronised("--prune", "--allow-vanished", "80") == {"vanished": 3, "unchanged": 1, "trashed": 1}
    kept = client.call("GET /collections/{name}/images", name=collection).json["images"]
    assert {image["digest"] for image in kept} == {digest_of(data) for data in (first, second, left)}


def test_a_folder_that_is_watched_is_followed(stack: Stack, folder: Path, collection: str, tmp_path: Path) -> None:
    arguments = ["sync", str(folder), "--collection", collection, "--watch", "--scan-every", "1"]
    environment = bare_environment(ARTSEEK_DATA=str(stack.data), XDG_CACHE_HOME=str(tmp_path / "cache"))
    running = subprocess.Popen([sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=environment)
    client = Client(stack.url)

    def names() -> set[str]:
        answer = client.send("GET", f"/api/v1/collections/{collection}/images?limit=100")
        return {image["name"] for image in json.loads(answer.body)["images"]} if answer.status == 200 else set()

    try:
        eventually(lambda: len(names()) == 12)
        (folder / "circles" / "0.jpg").rename(folder / "moved.jpg")
        eventually(lambda: "moved.jpg" in names())
        assert len(names()) == 12
        assert running.poll() is None
    finally:
        running.terminate()
        running.wait(PATIENCE_S)
