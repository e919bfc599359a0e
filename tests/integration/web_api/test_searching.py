"""Searches by the REST API: what they find, what chooses among it, and batches of them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.support.stack import Stack
from tests.support.web_client import BATCH, SEARCH, Client, File


@pytest.mark.parametrize("mode", ["auto", "lsh", "exact"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_image_of_the_collection_is_its_own_best_hit(
    client: Client, known: dict[int, tuple[str, bytes]], mode: str, metric: str
) -> None:
    for image, (name, data) in known.items():
        options = {"k": 3, "mode": mode, "metric": metric}
        by_id = client.call(SEARCH, name="web-api", value={"id": image, **options})
        by_file = client.call(
            SEARCH,
            name="web-api",
            fields=[("image", (name, data)), *((key, str(item)) for key, item in options.items())],
        )
        by_body = client.call(SEARCH, name="web-api", query=options, body=data, headers={"Content-Type": "image/jpeg"})
        for reply in (by_id, by_file, by_body):
            assert reply.status == 200, reply.body
            first = reply.json["hits"][0]
            assert (first["id"], first["name"], first["label"]) == (image, name, "shapes")
            assert first["score"] == pytest.approx(1.0, abs=1e-5)
            assert first["distance"] == pytest.approx(0.0, abs=1e-3)
            assert reply.json["metric"] == metric
            assert reply.json["mode"] == ("lsh" if mode == "lsh" else "exact")
            assert reply.json["collection_size"] == 6
            assert 1 <= reply.json["candidates"] <= 6
            assert reply.json["timings_ms"]["total"] > 0
        assert {"decode", "embed"} <= by_file.json["timings_ms"].keys()
        assert [hit["id"] for hit in by_file.json["hits"]] == [hit["id"] for hit in by_body.json["hits"]]


def test_hits_come_best_first_and_lead_to_their_files(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    hits = client.call(SEARCH, name="web-api", value={"id": next(iter(known)), "mode": "exact"}).json["hits"]
    assert sorted(hit["id"] for hit in hits) == sorted(known)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    for hit in hits:
        assert client.send("GET", hit["image"]).body == known[hit["id"]][1]
        thumbnail = Image.open(io.BytesIO(client.send("GET", hit["thumbnail"]).body))
        assert thumbnail.format == "JPEG"
        assert thumbnail.size == (160, 120)


def test_options_in_the_body_count_more_than_those_in_the_query(client: Client, known_id: int) -> None:
    reply = client.call(SEARCH, name="web-api", query={"k": 5, "metric": "euclidean"}, value={"id": known_id, "k": 2})
    assert len(reply.json["hits"]) == 2
    assert reply.json["metric"] == "euclidean"


def test_filters_examples_and_a_cut_off_choose_among_the_images(
    client: Client, known: dict[int, tuple[str, bytes]]
) -> None:
    ids = list(known)
    everything = client.call(SEARCH, name="web-api", value={"id": ids[0], "mode": "exact"}).json["hits"]
    order, scores = [hit["id"] for hit in everything], [hit["score"] for hit in everything]
    cases: list[tuple[dict[str, object], list[int]]] = [
        ({"label": ["shapes"]}, order),
        ({"label": ["others", "shapes"]}, order),
        ({"label": ["others"]}, []),
        ({"label": [""]}, []),
        ({"among": ids[2:4]}, [image for image in order if image in ids[2:4]]),
        ({"among": [7]}, []),
        ({"min_score": scores[2]}, order[:3]),
        ({"budget": 6}, order),
        ({"like": [ids[0]]}, order),
    ]
    for options, wanted in cases:
        for mode in ("exact", "auto"):
            reply = client.call(SEARCH, name="web-api", value={"id": ids[0], "mode": mode, **options})
            assert reply.status == 200, reply.body
            assert [hit["id"] for hit in reply.json["hits"]] == wanted, options
    alone = client.call(SEARCH, name="web-api", value={"like": [ids[0]], "mode": "exact"}).json["hits"]
    assert [hit["id"] for hit in alone] == order
    away = client.call(SEARCH, name="web-api", value={"unlike": [ids[0]], "mode": "exact"}).json["hits"]
    assert away[-1]["id"] == ids[0]
    assert client.call(SEARCH, name="web-api", value={"like": [7]}).status == 404


def test_lists_are_repeated_in_forms_and_addresses(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    ids = list(known)
    name, data = known[ids[0]]
    fields: list[tuple[str, str | File]] = [("image", (name, data)), *(("among", str(image)) for image in ids[:2])]
    by_form = client.call(SEARCH, name="web-api", fields=[*fields, ("label", "others"), ("label", "shapes")])
    assert sorted(hit["id"] for hit in by_form.json["hits"]) == sorted(ids[:2])
    target = f"/api/v1/collections/web-api/search?among={ids[0]}&among={ids[1]}&min_score=0.999"
    reply = client.send("POST", target, body=data, headers={"Content-Type": "image/jpeg"})
    assert [hit["id"] for hit in reply.json["hits"]] == [ids[0]]
    for wrong in ("min_score=nan", "min_score=2", "min_score=1_0", "among=x", "budget=-1", "like=0"):
        reply = client.send(
            "POST",
            f"/api/v1/collections/web-api/search?{wrong}",
            body=data,
            headers={"Content-Type": "image/jpeg"},
        )
        assert reply.status == 422, wrong
        assert reply.json["errors"][0]["field"].startswith("query." + wrong.partition("=")[0])


def test_as_many_ids_as_may_be_given_are_taken(client: Client, known_id: int) -> None:
    among = [known_id, *range(2**52, 2**52 + 99_999)]
    reply = client.call(SEARCH, name="web-api", value={"id": known_id, "among": among})
    assert [hit["id"] for hit in reply.json["hits"]] == [known_id]


def test_a_batch_answers_each_query_as_a_search_would(client: Client, known: dict[int, tuple[str, bytes]]) -> None:
    ids = list(known)
    for options in ({"k": 3, "mode": "exact"}, {"mode": "lsh", "metric": "euclidean", "label": ["shapes"]}):
        reply = client.call(BATCH, name="web-api", value={"ids": ids, **options})
        assert reply.status == 200, reply.body
        for image, answer in zip(ids, reply.json["answers"], strict=True):
            alone = client.call(SEARCH, name="web-api", value={"id": image, **options}).json
            assert {**answer, "timings_ms": {}} == {**alone, "timings_ms": {}}
    vectors = [[0.5] * 1280, [-0.5, 0.5] * 640]
    answers = client.call(BATCH, name="web-api", value={"vectors": vectors, "k": 2}).json["answers"]
    for vector, answer in zip(vectors, answers, strict=True):
        assert answer["hits"] == client.call(SEARCH, name="web-api", value={"vector": vector, "k": 2}).json["hits"]


def test_a_picture_is_searched_for_by_its_address(client: Client, stack: Stack, known_id: int) -> None:
    url = f"{stack.url}/api/v1/collections/web-api/images/{known_id}/original"
    hits = client.call(SEARCH, name="web-api", value={"url": url, "k": 3}).json["hits"]
    assert hits[0]["id"] == known_id
    printed = stack.artseek("search", "--url", url, "--collection", "web-api", "-k", "3", "--json")
    assert [hit["id"] for hit in json.loads(printed)["hits"]] == [hit["id"] for hit in hits]


def test_a_part_of_a_picture_is_searched_for_wherever_it_comes_from(
    client: Client, stack: Stack, known: dict[int, tuple[str, bytes]], known_id: int, tmp_path: Path
) -> None:
    data = known[known_id][1]
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        cropped = io.BytesIO()
        picture.crop((10, 10, 10 + width // 2, 10 + height // 2)).save(cropped, "PNG")
    box = f"10,10,{width // 2},{height // 2}"
    options = {"k": 6, "mode": "exact", "box": box}
    path = f"/api/v1/collections/web-api/images/{known_id}/original"
    (tmp_path / "whole.jpg").write_bytes(data)

    def scores(value: object = None, fields: Sequence[tuple[str, str | File]] | None = None) -> dict[int, float]:
        reply = client.call(SEARCH, name="web-api", value=value, fields=fields)
        assert reply.status == 200, reply.body
        return {hit["id"]: hit["score"] for hit in reply.json["hits"]}

    texts = [(name, str(text)) for name, text in options.items()]
    wanted = pytest.approx(scores(fields=[("image", ("a.png", cropped.getvalue())), *texts[:2]]), abs=0.002)
    assert scores({"id": known_id, **options}) == wanted
    assert scores({"url": stack.url + path, **options}) == wanted
    assert scores(fields=[("image", ("a.jpg", data)), *texts]) == wanted
    assert scores({"id": known_id, "k": 6, "mode": "exact"}) != wanted
    for query in (["--id", str(known_id)], [str(tmp_path / "whole.jpg")]):
        arguments = ["--box", box, "--mode", "exact", "-k", "6", "--collection", "web-api", "--json"]
        answer = json.loads(stack.artseek("search", *query, *arguments))
        assert {hit["id"]: hit["score"] for hit in answer["hits"]} == wanted


def test_a_query_counts_beside_examples_by_its_weight(client: Client, stack: Stack, known: dict[int, object]) -> None:
    query, example = list(known)[:2]

    def found(**value: object) -> list[tuple[int, float]]:
        hits = client.call(SEARCH, name="web-api", value={"like": [example], "mode": "exact", **value}).json["hits"]
        return [(hit["id"], round(hit["distance"], 6)) for hit in hits]

    distances = [dict(found(id=query, weight=weight))[query] for weight in (0, 0.5, 1, 10)]
    assert distances == sorted(distances, reverse=True)
    assert len({*distances}) == 4
    assert found(id=query, weight=0) == found()
    assert found(id=query) == found(id=query, weight=1)
    arguments = ("--id", str(query), "--like", str(example), "--weight", "0.5", "--mode", "exact", "--json")
    printed = json.loads(stack.artseek("search", "--collection", "web-api", *arguments))
    assert [(hit["id"], round(hit["distance"], 6)) for hit in printed["hits"]] == found(id=query, weight=0.5)
    assert client.call(SEARCH, name="web-api", value={"id": query, "weight": 10.5}).status == 422
    status, _, told = stack.run("search", "--collection", "web-api", "--id", str(query), "--weight", "-1")
    assert (status, "weight is -1.0, expected 0 to 10" in told) == (1, True)
