"""Scripts and styles: kept by browsers for good, under addresses that another version does not have."""

from pathlib import Path

import pytest
from flask import Flask, url_for
from flask.testing import FlaskClient

from services.web import static_files

STYLE, SCRIPT = "a {}", 'import "./other.js";'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "js").mkdir()
    (tmp_path / "style.css").write_text(STYLE)
    (tmp_path / "js" / "script.js").write_text(SCRIPT)
    return tmp_path


def served(folder: Path) -> FlaskClient:
    app = Flask(__name__, static_folder=None)
    static_files.attach(app, folder)
    return app.test_client()


def address(client: FlaskClient, name: str) -> str:
    with client.application.test_request_context():
        return url_for("static", filename=name)


def test_what_has_a_version_in_its_address_is_kept_for_good(folder: Path) -> None:
    client = served(folder)
    for name, content in (("style.css", STYLE), ("js/script.js", SCRIPT)):
        answer = client.get(address(client, name))
        assert answer.text == content
        assert answer.cache_control.immutable
        assert answer.cache_control.public
        assert (answer.cache_control.max_age or 0) >= 30 * 24 * 3600
        assert not answer.cache_control.no_cache


def test_modules_name_each_other_within_a_version(folder: Path) -> None:
    client = served(folder)
    assert address(client, "js/script.js").rpartition("/")[0] == address(client, "js/other.js").rpartition("/")[0]


@pytest.mark.parametrize("changed", ["content", "name"])
def test_another_version_has_other_addresses(folder: Path, changed: str) -> None:
    before = address(served(folder), "style.css")
    if changed == "content":
        (folder / "js" / "script.js").write_text("")
    else:
        (folder / "js" / "script.js").rename(folder / "js" / "other.js")
    client = served(folder)
    assert address(client, "style.css") != before
    # A page of the earlier version is answered with what there is now, which its browser must not take for that.
    answer = client.get(before)
    assert answer.text == STYLE
    assert answer.cache_control.no_cache
    assert not answer.cache_control.immutable


def test_without_a_version_a_file_is_asked_for_again(folder: Path) -> None:
    client = served(folder)
    answer = client.get("/static/js/script.js")
    assert answer.text == SCRIPT
    assert answer.cache_control.no_cache
    assert client.get("/static/js/script.js", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_only_files_of_the_folder_are_served(folder: Path) -> None:
    (folder.parent / "secret").write_text("")
    client = served(folder)
    version = address(client, "x").split("/")[2]
    for path in (f"/static/{version}", f"/static/{version}/../secret", f"/static/{version}/nothing.js", "/static/js"):
        assert client.get(path).status_code == 404


def test_the_files_of_the_pages_are_there() -> None:
    client = served(static_files.FOLDER)
    assert client.get(address(client, "artseek.css")).status_code == 200
