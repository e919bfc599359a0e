"""What an index of regions costs is told for the images that have no windows yet."""

import pytest

from shared.index.region_costs import region_costs
from shared.rpc.query import Collection
from shared.schemas.regions import regions_answer
from shared.settings import Settings
from shared.windows import MOST_WINDOWS


def test_costs_grow_with_the_windows_and_their_embeddings() -> None:
    costs = region_costs(100, dim=1280, vector_type="float32", images_per_second=10)
    assert costs.embeddings == 100 * MOST_WINDOWS
    assert costs.minutes == pytest.approx(100 * MOST_WINDOWS / 600)
    assert 5120 < costs.store_bytes / costs.embeddings < 5400
    half = region_costs(100, dim=1280, vector_type="float16", images_per_second=10)
    assert costs.store_bytes - half.store_bytes == 2 * 1280 * costs.embeddings
    assert region_costs(100, dim=1280, vector_type="float32", images_per_second=0).minutes is None


def test_images_that_have_windows_cost_nothing() -> None:
    collection = Collection(name="art", images=10, regions=True, with_regions=10, windows=380, dim=8)
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    answer = regions_answer(collection, settings)
    assert (answer["regions"], answer["windows"], answer["costs"]["embeddings"]) == (True, 380, 0)
    collection.with_regions = 4
    assert regions_answer(collection, settings)["costs"]["embeddings"] == 6 * MOST_WINDOWS
