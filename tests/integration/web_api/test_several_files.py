"""Several files as one query: found like what they have in common, as examples are."""

import json
from pathlib import Path

from tests.support.stack import Stack
from tests.support.web_client import SEARCH, Client, File


def form(*files: tuple[str, bytes], **options: object) -> list[tuple[str, str | File]]:
    return [*(("image", file) for file in files), *((name, str(value)) for name, value in options.items())]


def test_several_files_are_combined_as_examples_are(
    client: Client, stack: Stack, known: dict[int, tuple[str, bytes]], tmp_path: Path
) -> None:
    ids, files = list(known), list(known.values())
    for places in ((0, 3), (0, 3, 3)):  # one that is sent twice counts twice
        found = client.call(SEARCH, name="web-api", fields=form(*(files[at] for at in places), k=6)).json
        wanted = client.call(SEARCH, name="web-api", value={"like": [ids[at] for at in places], "k": 6}).json
        assert [hit["id"] for hit in found["hits"]] == [hit["id"] for hit in wanted["hits"]]
        for hit, other in zip(found["hits"], wanted["hits"], strict=True):
            assert abs(hit["score"] - other["score"]) < 1e-4
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for path, at in zip(paths, (0, 3), strict=True):
        path.write_bytes(files[at][1])
    printed = json.loads(stack.artseek("search", *map(str, paths), "--collection", "web-api", "-k", "6", "--json"))
    two = client.call(SEARCH, name="web-api", fields=form(files[0], files[3], k=6)).json
    assert [hit["id"] for hit in printed["hits"]] == [hit["id"] for hit in two["hits"]]
    # With examples beside them they are the query that these move.
    moved = client.call(SEARCH, name="web-api", fields=form(files[0], files[3], k=6, like=ids[5])).json
    assert [hit["score"] for hit in moved["hits"]] != [hit["score"] for hit in two["hits"]]
