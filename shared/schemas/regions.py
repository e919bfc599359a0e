"""The index of a collection's regions: how far it is, and what it costs."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.index.region_costs import region_costs
from shared.rpc.query import Collection
from shared.settings import Settings


class RegionCostsAnswer(TypedDict):
    """What the windows cost that the images without windows have at most: embeddings, minutes, and bytes.

    `minutes` is null where it is not known how fast images are embedded here. `store_bytes` are needed in the object
    store, and on the disk of the query service.
    """

    embeddings: int
    minutes: float | None
    store_bytes: int
    redis_bytes: int


class RegionsAnswer(TypedDict):
    """The regions of a collection's images: whether they are indexed, and what it costs to index what is missing.

    `with_regions` of the `images` have windows by now, `windows` in all.
    """

    regions: bool
    images: int
    with_regions: int
    windows: int
    costs: RegionCostsAnswer


def regions_answer(collection: Collection, settings: Settings) -> RegionsAnswer:
    """Return what there is of a collection's regions."""
    costs = region_costs(
        max(0, collection.images - collection.with_regions),
        dim=collection.dim,
        vector_type=settings.vector_type,
        images_per_second=collection.images_per_second,
    )
    return RegionsAnswer(
        regions=collection.regions,
        images=collection.images,
        with_regions=collection.with_regions,
        windows=collection.windows,
        costs=RegionCostsAnswer(
            embeddings=costs.embeddings,
            minutes=None if costs.minutes is None else round(costs.minutes, 1),
            store_bytes=costs.store_bytes,
            redis_bytes=costs.redis_bytes,
        ),
    )
