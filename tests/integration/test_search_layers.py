"""The layers that `make bench-check` compares search the same: the index in process, the query service, HTTP."""

import json
from pathlib import Path
from typing import Any

from benchmarks import search_layers
from benchmarks.image_ids import ImageIds


def test_all_layers_find_the_same(tmp_path: Path) -> None:
    count = 3000
    vectors, queries = search_layers.simulated_vectors(count)
    ids = ImageIds(count).ids
    with search_layers.searched_collection(tmp_path, vectors, queries) as layers:
        for number in range(5):
            family: Any = layers[search_layers.FAMILY](number)
            service: Any = layers[search_layers.SERVICE](number)
            assert service.probed_buckets == family.lookups
            assert {hit.image.id for hit in service.hits} == {int(ids[row]) for row in family.rows}
            by_id: Any = layers[search_layers.SERVICE_BY_ID](number)
            answer: Any = layers[search_layers.HTTP](number)
            by_http = json.loads(answer)
            assert by_http["mode"] == "lsh"
            assert [hit["id"] for hit in by_http["hits"]] == [hit.image.id for hit in by_id.hits]
            assert by_http["hits"][0]["id"] == ids[number]
