"""Images that somebody chose, named by their ids: look-ups, exports, originals as a ZIP file, the page with them."""

import csv
import io
import zipfile

from services.web.pages.selection import MOST_IN_ADDRESS
from tests.support.web_client import Client

NOBODY = 4503599627370496  # an id that no image has
Known = dict[int, tuple[str, bytes]]


def chosen(known: Known) -> list[int]:
    return list(known)[:3]


def test_a_look_up_tells_what_is_there_and_what_is_gone(client: Client, known: Known) -> None:
    first, second, _ = chosen(known)
    ids = [second, NOBODY, first, second]
    found = client.call("POST /collections/{name}/lookup", name="web-api", value={"ids": ids}).json
    assert [image["id"] for image in found["images"]] == [second, first]
    assert [image["name"] for image in found["images"]] == [known[second][0], known[first][0]]
    assert found["gone"] == [NOBODY]


def test_chosen_images_are_exported_as_all_are(client: Client, known: Known) -> None:
    whole = client.call("GET /collections/{name}/export", name="web-api", query={"format": "csv"}).body
    expected = {row["id"]: row for row in csv.DictReader(io.StringIO(whole.decode("utf-8-sig")))}
    ids = [NOBODY, *reversed(chosen(known))]
    reply = client.call("POST /collections/{name}/export", name="web-api", value={"ids": ids, "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(reply.body.decode("utf-8-sig"))))
    assert rows == [expected[str(image)] for image in ids[1:]]
    lines = client.call("POST /collections/{name}/export", name="web-api", value={"ids": ids, "format": "jsonl"}).body
    assert len(lines.splitlines()) == 3
    form = [("id", str(image)) for image in ids]
    sent = client.send("POST", "/collections/web-api/selection/export", fields=[*form, ("format", "csv")])
    assert sent.body == reply.body
    assert sent.headers["Content-Disposition"] == 'attachment; filename="web-api-selection.csv"'


def test_originals_come_as_one_zip_file_by_their_names(client: Client, known: Known) -> None:
    ids = [*chosen(known), NOBODY]
    reply = client.call("POST /collections/{name}/originals", name="web-api", value={"ids": ids})
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == dict(known[image] for image in ids[:3])


def test_the_address_of_a_selection_shows_its_images_in_its_order(client: Client, known: Known) -> None:
    ids = chosen(known)[::-1]
    page = client.send("GET", f"/collections/web-api/selection?ids={','.join(map(str, [*ids, NOBODY]))}").body.decode()
    places = [page.index(f'data-id="{image}"') for image in ids]
    assert places == sorted(places)
    assert page.count('class="work"') == 3
    assert "1 more is not there any more" in page
    many = ",".join(["7"] * (MOST_IN_ADDRESS + 1))
    assert client.send("GET", f"/collections/web-api/selection?ids={many}").status == 422
    assert client.send("GET", "/collections/web-api/selection?ids=7,x").status == 422


def test_a_selection_in_no_collection_is_refused(client: Client, known_id: int) -> None:
    for operation in ("lookup", "export", "originals"):
        reply = client.call(f"POST /collections/{{name}}/{operation}", name="web-nil", value={"ids": [known_id]})
        assert (reply.status, reply.json["code"]) == (404, "not-found")
