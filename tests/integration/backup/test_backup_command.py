"""`artseek backup` and `artseek restore` as commands: what they print, what they refuse, how they end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.clients import System
from cli.main import main
from shared.settings import Settings, environment_name
from shared.state import Job
from shared.storage import layout
from tests.support import rows
from tests.support.backups import live_images
from tests.support.indexing import Parts
from tests.support.servers import Servers

Run = Callable[..., Result]


@pytest.fixture
def run(parts: Parts, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command on the system; rebuilds are done in this process."""
    monkeypatch.setenv("ARTSEEK_DATA", str(tmp_path / "data"))
    for field in settings.model_fields_set - {"data"}:
        value = getattr(settings, field)
        shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        monkeypatch.setenv(environment_name(field), str(shown))

    def run_job(_: System, kind: Any, collection: str, __: object) -> Job:
        parts.maintenance().rebuilder.rebuild(collection=collection, job=parts.job(f"r-{collection}", kind=kind))
        return parts.jobs.get(f"r-{collection}")

    monkeypatch.setattr(System, "run_job", run_job)
    return lambda *arguments, **options: CliRunner().invoke(main, list(arguments), **options)


def fill(parts: Parts) -> None:
    art = parts.collection()
    parts.add(art, "a", range(6))


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_backup_is_made_listed_verified_and_restored(
    parts: Parts, servers: Servers, run: Run, tmp_path: Path, kind: str
) -> None:
    fill(parts)
    place = str(tmp_path / "backup") if kind == "folder" else f"s3://backups/{tmp_path.name}"
    made = [json.loads(run("backup", place, "--keep", "2", "--json").stdout) for _ in range(3)]
    assert (made[0]["images"], made[0]["collections"], made[0]["damaged"]) == (6, ["art"], [])
    assert made[0]["new_blobs"] > 6
    assert made[1]["new_blobs"] == made[2]["new_blobs"] == 0
    assert [one["dropped"] for one in made] == [[], [], [made[0]["snapshot"]]]
    verified = run("backup", place, "--verify", "--json")
    assert (verified.exit_code, json.loads(verified.stdout)["ok"]) == (0, True)
    listed = json.loads(run("restore", place, "--list", "--json").stdout)
    assert [backup["snapshot"] for backup in listed] == [backup["snapshot"] for backup in made[1:]]
    before = live_images(parts.catalog, "art")
    servers.empty()
    file = tmp_path / "settings.env"
    done = run("restore", place, "--snapshot", made[1]["snapshot"][:20], "--settings", str(file), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["collections"] == {"art": 6}
    assert live_images(parts.catalog, "art") == before
    assert "ARTSEEK_S3_ENDPOINT='" in file.read_text()
    assert "SECRET" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    again = run("restore", place)
    assert (again.exit_code, "the system is not empty" in again.stderr) == (1, True)


def test_replacing_asks_first_and_never_deletes_for_a_damaged_backup(parts: Parts, run: Run, tmp_path: Path) -> None:
    fill(parts)
    place = str(tmp_path / "backup")
    assert run("backup", place).exit_code == 0
    parts.add(parts.catalog.get("art"), "later", [50])
    no = run("restore", place, "--replace", input="n\n")
    assert (no.exit_code, len(live_images(parts.catalog, "art"))) == (1, 7)
    blob = tmp_path / "backup" / "blobs" / layout.digest_of(b"3")[:2] / layout.digest_of(b"3")
    data = blob.read_bytes()
    blob.write_bytes(b"x")
    damaged = run("restore", place, "--replace", "--yes")
    assert (damaged.exit_code, "nothing was deleted" in damaged.stderr) == (1, True)
    assert len(live_images(parts.catalog, "art")) == 7
    blob.write_bytes(data)
    yes = run("restore", place, "--replace", input="y\n")
    assert yes.exit_code == 0, yes.output
    assert set(live_images(parts.catalog, "art")) == {rows.digest(number) for number in range(6)}


def test_damage_and_wrong_usage_tell_by_the_exit_status(parts: Parts, run: Run, tmp_path: Path) -> None:
    fill(parts)
    place = str(tmp_path / "backup")
    assert run("backup").exit_code == 2
    assert run("backup", place, "--verify", "--keep", "2").exit_code == 2
    assert run("backup", place, "--keep", "0").exit_code == 2
    assert run("restore", place).exit_code == 1
    assert not (tmp_path / "backup").exists()
    parts.store.put(layout.original_key(rows.digest(2)), b"rotten")
    rotten = run("backup", place)
    assert (rotten.exit_code, rows.digest(2) in rotten.stdout.replace("\n", "")) == (1, True)
    (tmp_path / "backup" / "blobs" / layout.digest_of(b"3")[:2] / layout.digest_of(b"3")).unlink()
    verified = run("backup", place, "--verify", "--json")
    assert verified.exit_code == 1
    assert [damage["blob"] for damage in json.loads(verified.stdout)["damaged"]] == [layout.digest_of(b"3")]
