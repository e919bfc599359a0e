"""The command from another machine: it has no access to Redis and the store, only the address of the page."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.query_sets import QuerySets
from shared.state import State, connect
from shared.storage.object_store import ObjectStore
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.forked_command import run_command
from tests.support.paths import ROOT
from tests.support.pictures import photograph, saved
from tests.support.processes import bare_environment, free_port, suspended
from tests.support.raw_files import SENSOR, cr3, raf, rw2
from tests.support.stack import Stack
from tests.support.web_client import picture

NAME = "from-afar"
NOTHING = {
    "ARTSEEK_DATA": "/nonexistent",
    "ARTSEEK_INDEX_URL": "redis://127.0.0.1:1/0",
    "ARTSEEK_BROKER_URL": "redis://127.0.0.1:1/0",
    "ARTSEEK_S3_ENDPOINT": "127.0.0.1:1",
    "ARTSEEK_QUERY_TARGET": "127.0.0.1:1",
}


class Laptop:
    """Runs the command with nothing but the address of a page."""

    def __init__(self, url: str) -> None:
        self.environment = bare_environment(**NOTHING, ARTSEEK_URL=url)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        return run_command(arguments, self.environment, timeout_s=PATIENCE_S)

    def json(self, *arguments: str, status: int = 0) -> Any:
        found, printed, told = self.run(*arguments, "--json")
        assert found == status, told
        return json.loads(printed)


@pytest.fixture(scope="module")
def laptop(stack: Stack) -> Laptop:
    return Laptop(stack.url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, loose ones, and files that are none."""
    made = tmp_path_factory.mktemp("afar")
    for place, label in enumerate(("circles", "lines", "waves")):
        (made / label / "inner").mkdir(parents=True)
        for number in range(6):
            (made / label / "inner" / f"{number}.jpg").write_bytes(picture(30_000 + 10 * place + number))
    (made / "loose ünd.jpg").write_bytes(picture(30_100))
    (made / "lines" / "broken.jpg").write_bytes(b"no image at all")
    (made / "waves" / "empty.jpg").write_bytes(b"")
    return made


@pytest.fixture(scope="module")
def ingested(laptop: Laptop, folder: Path) -> Any:
    return laptop.json("ingest", str(folder), "--collection", NAME, "--labels-from-folders", status=3)


def test_a_folder_is_ingested_with_its_labels_paths_and_refusals(
    stack: Stack, laptop: Laptop, folder: Path, ingested: Any
) -> None:
    assert {(item["file"], item["code"]) for item in ingested["rejected"]} == {
        (str(folder / "lines" / "broken.jpg"), "not-an-image"),
        (str(folder / "waves" / "empty.jpg"), "empty"),
    }
    assert (ingested["files"], ingested["finished"], ingested["added"], ingested["unlabelled"]) == (21, 21, 19, 1)
    assert ingested["classes"] == {"circles": 6, "lines": 6, "waves": 6}
    beside = json.loads(stack.artseek("search", str(folder / "loose ünd.jpg"), "--collection", NAME, "--json"))
    assert beside["hits"][0]["name"] == "loose ünd.jpg"
    again = laptop.json("ingest", str(folder), "--collection", NAME, "--labels-from-folders", status=3)
    assert (again["added"], again["duplicates"]) == (0, 19)


@pytest.mark.usefixtures("ingested")
def test_a_search_answers_as_it_does_beside_the_servers(stack: Stack, laptop: Laptop, folder: Path) -> None:
    image = str(folder / "lines" / "inner" / "2.jpg")
    for arguments in (
        ("search", image, "--collection", NAME, "-k", "4", "--mode", "exact"),
        ("search", image, "--collection", NAME, "--label", "waves", "--metric", "euclidean", "--min-score", "0.01"),
    ):
        afar, beside = laptop.json(*arguments), json.loads(stack.artseek(*arguments, "--json"))
        assert afar["hits"] == beside["hits"]
        assert afar.keys() == beside.keys()
    first = laptop.json("search", image, "--collection", NAME)["hits"][0]
    assert first["name"] == "lines/inner/2.jpg"
    by_id = laptop.json("search", "--id", str(first["id"]), "--collection", NAME, "-k", "3")
    assert by_id["hits"][0]["id"] == first["id"]
    status, printed, _ = laptop.run("search", image, "--collection", NAME, "-k", "1")
    assert (status, "lines/inner/2.jpg" in printed) == (0, True)


@pytest.mark.usefixtures("ingested")
def test_an_evaluation_by_a_folder_finds_what_it_finds_beside_the_servers_and_leaves_no_name(
    stack: Stack, laptop: Laptop, folder: Path
) -> None:
    arguments = ("evaluate", str(folder), "--collection", NAME, "-k", "3", "--seed", "5")
    afar = laptop.json(*arguments, status=3)
    beside = json.loads(stack.artseek(*arguments, "--json", check=False))
    assert afar["runs"][0]["p_at_k"] == beside["runs"][0]["p_at_k"]
    codes = {item["name"]: item["code"] for item in afar["query_set"]["rejected"]}
    assert codes["loose ünd.jpg"] == "no-label"
    assert codes["waves/empty.jpg"] == "empty"
    assert "lines/broken.jpg" in codes
    state = State.of(connect(stack.settings.index_url.get_secret_value()))
    sets = QuerySets(ObjectStore.from_settings(stack.settings), state)
    assert not [name for name in sets.names() if name.startswith("command-")]
    laptop.json(*arguments, "--keep", "afar-kept", status=3)
    kept = sets.kept("afar-kept")
    assert len(sets.get(kept).queries) == 18
    again = laptop.json("evaluate", "--queries", "afar-kept", "--collection", NAME, "-k", "3")
    assert again["runs"][0]["p_at_k"] == afar["runs"][0]["p_at_k"]
    assert laptop.json("evaluate", "--delete", again["id"]) == {"evaluation": again["id"], "deleted": 1}


def test_an_interrupted_evaluation_is_cancelled(stack: Stack, laptop: Laptop, folder: Path, ingested: Any) -> None:
    del ingested
    grid = folder.parent / "grid.json"
    grid.write_text(json.dumps([{"tables": [2, 4, 8], "hashes": [2, 4, 6, 8], "width": 0.6, "probes": [1, 2, 4]}]))
    arguments = ["evaluate", str(folder), "--collection", NAME, "-k", "3", "--grid", str(grid), "--json"]
    jobs = State.of(connect(stack.settings.index_url.get_secret_value())).jobs
    before = {job.id for job in jobs.page(collection=NAME, kind="evaluate")[0]}
    with (
        suspended(stack.part("evaluator")),
        subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=laptop.environment, stdout=subprocess.PIPE
        ) as running,
    ):
        try:
            begun = eventually(
                lambda: [job for job in jobs.page(collection=NAME, kind="evaluate")[0] if job.id not in before]
            )
            os.kill(running.pid, signal.SIGINT)
            assert running.wait(PATIENCE_S) == 130
        finally:
            running.kill()
    eventually(lambda: jobs.get(begun[0].id).done)
    assert jobs.get(begun[0].id).cancelled


@pytest.mark.usefixtures("ingested")
def test_an_export_is_what_it_is_beside_the_servers_and_one_that_fails_leaves_nothing(
    stack: Stack, laptop: Laptop, tmp_path: Path
) -> None:
    afar, beside = tmp_path / "afar.csv", tmp_path / "beside.csv"
    assert laptop.run("export", str(afar), "--collection", NAME)[0] == 0
    stack.artseek("export", str(beside), "--collection", NAME)
    assert sorted(afar.read_text().splitlines()) == sorted(beside.read_text().splitlines())
    before = afar.read_bytes()
    status, _, told = laptop.run("export", str(afar), "--collection", "no-such")
    assert (status, "no-such" in told) == (1, True)
    assert (afar.read_bytes(), sorted(tmp_path.iterdir())) == (before, [afar, beside])


def test_raw_files_are_ingested_beside_the_servers_and_from_afar(stack: Stack, laptop: Laptop, tmp_path: Path) -> None:
    for number, kind in enumerate((raf, rw2, cr3)):
        (tmp_path / f"a.{kind.__name__}").write_bytes(kind(saved(photograph(*SENSOR, seed=number), "JPEG")))
    arguments = "ingest", str(tmp_path), "--collection"
    beside = json.loads(stack.artseek(*arguments, "raw-beside", "--json"))
    for answer in (beside, laptop.json(*arguments, "raw-afar")):
        assert (answer["added"], answer["rejected"]) == (3, [])


def test_what_cannot_be_is_told_in_the_system_s_words(laptop: Laptop, folder: Path) -> None:
    image = str(folder / "loose ünd.jpg")
    for arguments, told in (
        (("search", image, "--collection", "no-such"), "there is no collection 'no-such'"),
        (("search", str(folder / "lines" / "broken.jpg")), "no picture that can be taken"),
        (("evaluate", "--queries", "no-such-set", "--collection", NAME), "there is no query set named 'no-such-set'"),
        (("tune",), "ARTSEEK_URL names a remote system, and `artseek tune` works beside the servers"),
    ):
        status, _, errors = laptop.run(*arguments)
        assert (status, told in " ".join(errors.split())) == (1, True), errors


def test_an_address_without_artseek_is_told(folder: Path) -> None:
    image = str(folder / "loose ünd.jpg")
    status, _, errors = Laptop(f"http://127.0.0.1:{free_port()}").run("search", image)
    assert (status, "does not answer" in errors) == (1, True)
    status, _, errors = Laptop("ftp://elsewhere").run("search", image)
    assert (status, "is no address" in errors) == (1, True)


@pytest.mark.usefixtures("ingested")
def test_share_links_are_made_listed_and_revoked_from_afar(laptop: Laptop) -> None:
    made = laptop.json("share", "create", "--collection", NAME, "--days", "2")
    assert (made["collection"], made["images"], made["by"]) == (NAME, [], "command line")
    assert laptop.json("share", "list", "--collection", NAME) == {"shares": [made]}
    assert laptop.run("share", "revoke", made["id"], "--collection", NAME)[0] == 0
