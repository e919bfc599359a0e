"""`artseek models` on the real system: a model that is exported meanwhile is listed, and used without a restart."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.model_config import MANIFEST, write_model_config
from shared.rpc.serving import golden
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore
from tests.support.eventually import eventually
from tests.support.stack import Stack

MODEL = "efficientnet-lite0"


@pytest.fixture
def second(stack: Stack) -> Iterator[str]:
    """Another model of the running system, which is exported as `artseek train` does and goes when the test ends."""
    folder = Path(stack.settings.models)
    copy = folder / "works" / "1"
    building = folder / ".export-test"
    shutil.copytree(folder / MODEL / "1", building)
    manifest = building / MANIFEST
    search = {
        "k": 10,
        "p_at_k": 0.75,
        "per_class": {"a": {"p_at_k": 0.7}},
        "background": {"p_at_k": 0.5, "per_class": {}},
    }
    about = {"run": {"recipe": {"name": "search"}}, "accuracy": 0.9125, "search": search}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"model": "works", "training": about}))
    copy.parent.mkdir()
    building.rename(copy)
    try:
        write_model_config(folder, str(folder))
        yield "works"
    finally:
        shutil.rmtree(copy.parent)
        write_model_config(folder, str(folder))


def listed(stack: Stack, model: str) -> dict[str, Any]:
    found = json.loads(stack.artseek("models", "--json"))
    return next(one for one in found if one["model"] == model)


def test_a_model_is_taken_up_listed_and_used(stack: Stack, gallery: Path, second: str) -> None:
    assert "default" in listed(stack, MODEL)["collections"]
    eventually(lambda: listed(stack, second)["served"])
    found = listed(stack, second)
    assert (found["backbone"], found["dim"], found["recipe"]) == (MODEL, 1280, "search")
    assert found["figures"] == {"k": 10, "p_at_k": 0.75, "p_at_k_background": 0.5, "accuracy": 0.9125}
    told = " ".join(stack.artseek("models").split())
    assert "P@10" in told
    assert "0.750" in told

    files = sorted((gallery / "drawing").iterdir())
    stack.artseek("ingest", *map(str, files), "--collection", "moving")
    query = ("search", str(files[3]), "--collection", "moving", "--json")
    before = json.loads(stack.artseek(*query))
    changed = json.loads(stack.artseek("models", "use", "works:1", "--collection", "moving", "--json"))
    assert changed | {"job": ""} == {
        "collection": "moving", "changed": True, "from": {"model": MODEL, "version": 1}, "images": len(files),
        "model": "works", "version": 1, "dim": 1280, "failed": [], "job": "",
    }  # fmt: skip
    after = json.loads(stack.artseek(*query))
    assert [hit["id"] for hit in after["hits"]] == [hit["id"] for hit in before["hits"]]  # the same network
    assert listed(stack, second)["collections"] == ["moving"]
    again = stack.artseek("models", "use", "works", "--collection", "moving")
    assert "uses works version 1 already" in again
    assert stack.artseek("models", "use", "nowhere:3", "--collection", "moving", check=False) == ""
    assert Catalog(ObjectStore.from_settings(stack.settings)).get("moving").model == "works"
    stack.artseek("models", "use", MODEL, "--collection", "moving")
    compacted = json.loads(stack.artseek("compact", "--collection", "moving", "--json"))
    assert compacted["compacted"]["moving"]["segments_after"] >= 1
    stack.artseek("delete", "--whole-collection", "--collection", "moving")


def test_wrong_use_says_what_is_expected(stack: Stack) -> None:
    for model, collection, wanted, words in (
        ("works:", "default", 2, "NAME:VERSION"),
        (":1", "default", 2, "NAME:VERSION"),
        ("works", "nothere", 1, "nothere"),
    ):
        status, _, told = stack.run("models", "use", model, "--collection", collection)
        assert status == wanted
        assert words in told


def test_what_is_served_is_held_against_what_was_trained(stack: Stack, second: str) -> None:
    def checked(*model: str, code: int = 0) -> dict[str, dict[str, Any]]:
        text = stack.artseek("models", "check", *model, "--json", check=code == 0)
        return {one["model"]: one for one in json.loads(text)}

    eventually(lambda: listed(stack, second)["served"])
    found = checked()
    assert {MODEL, second} <= found.keys()
    assert all(one["difference"] < 1e-3 and one["error"] == "" for one in found.values())
    assert checked(f"{second}:1").keys() == {second}
    assert "served as trained" in stack.artseek("models", "check", MODEL)

    path = Path(stack.settings.models) / second / "1" / golden.GOLDEN
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **(arrays | {"embeddings": np.roll(arrays["embeddings"], 1, axis=1)}))
    wrong = checked(second, code=1)[second]
    assert wrong["difference"] is None
    assert "not served as it was trained" in wrong["error"]
    assert stack.artseek("models", "check", "nowhere", check=False) == ""
    assert stack.artseek("models", "check", f"{second}:0", check=False) == ""
