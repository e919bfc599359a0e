"""What is exported of a collection and imported into an empty one is the same, whatever the values are."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.storage.layout import digest_of
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client

ODD = [
    "=cmd()",
    "'=x",
    "a|b\\",
    "two\nlines",
    "a\u2028b\u0085c",
    "\u202e\u05e9\u05dc\u05d5\u05dd 🖼",
    'said "so", twice',
    "007",
]
NAMES = ["d/a.jpg", "=x.jpg", "a|b.jpg", "new\nline.jpg", "u\u2028v.jpg", "'q.jpg", "e\u0301.jpg", "last.jpg"]
FORMS = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet"}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="module")
def odd(client: Client, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A collection of embeddings whose records are odd; its embeddings as a file."""
    folder = tmp_path_factory.mktemp("odd")
    vectors = np.eye(len(NAMES), 16, dtype=np.float32)
    digests = [digest_of(name.encode()) for name in NAMES]
    made = pa.table({"filename": NAMES, "digest": digests, "vector": list(vectors)})
    pq.write_table(made, folder / "made.parquet")
    stack.artseek("import", str(folder / "made.parquet"), "--collection", "odd", "--model", "museum-net:1")
    rows = [
        ["Filename", "Height:number", "Shelf:text", "Acquired:date", "Seen at:link", "Title@de"],
        ["d/a.jpg", "12.5|1e300", "12", "1710", "https://example.org/a", "Die Mühle"],
        ["last.jpg", "c. 30", "7", "c. 1652", "no link", ""],
    ]
    with (folder / "odd.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    stack.artseek("records", "import", str(folder / "odd.csv"), "--collection", "odd", "--key", "filename")
    eventually(lambda: len(listed(client, "odd")) == len(NAMES))
    for number, (image, value) in enumerate(zip(listed(client, "odd"), ODD, strict=True)):
        fields: dict[str, Any] = {"title": value, "odd": [value, {"value": "zwei", "lang": "de"}]}
        changes = {"labels": [value.split("\n")[0], "b"] if number % 2 else [], "fields": fields}
        answer = client.call("PATCH /collections/{name}/images/{id}", name="odd", id=image["id"], value=changes)
        assert answer.status == 200, answer.json
    (folder / "odd.vectors.parquet").write_bytes(exported(client, "odd", "vectors"))
    yield folder / "odd.vectors.parquet"
    stack.artseek("delete", "--collection", "odd", "--whole-collection")


def listed(client: Client, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.call("GET /collections/{name}/images", name=name).json.get("images", [])
    return found


def exported(client: Client, name: str, form: str) -> bytes:
    return client.call("GET /collections/{name}/export", name=name, query={"format": form}).body


def read(form: str, data: bytes) -> list[Any]:
    """Return what an export says, in the order of the ids; of CSV, its header too."""
    if form == "csv":
        head, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return [head, *sorted(rows)]
    if form == "jsonl":
        return sorted((json.loads(line) for line in data.split(b"\n") if line), key=lambda row: int(row["id"]))
    table = pq.read_table(io.BytesIO(data))
    return [str(table.schema), *sorted(table.to_pylist(), key=lambda row: int(row["id"]))]


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_collection_becomes_the_same(client: Client, stack: Stack, odd: Path, form: str) -> None:
    copy, data = f"odd-{form}", exported(client, "odd", form)
    path = odd.with_name("odd" + FORMS[form])
    path.write_bytes(data)
    stack.artseek("import", str(odd), "--collection", copy)
    eventually(lambda: len(listed(client, copy)) == len(NAMES))
    stack.artseek("records", "import", str(path), "--collection", copy, "--key", "id")
    try:
        forms = ["csv", "jsonl", "parquet", "vectors"] if form == "jsonl" else [form]
        for each in forms:
            found, wanted = (read(each, exported(client, name, each)) for name in (copy, "odd"))
            for one, other in itertools.zip_longest(found, wanted):
                assert one == other
    finally:
        stack.artseek("delete", "--collection", copy, "--whole-collection")
