"""Maps of collections: where images lie, and which values of a field they have."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12


class MapAnswer(TypedDict):
    """Where the images of a collection lie, in arrays of one length: images that are alike lie near each other.

    `x` and `y` are whole numbers from 0 to 65,535. The map was fitted on `fitted` of the images when it was `created`;
    the others were placed amid those that they are most like. `missing` images of the collection are not on it yet.
    """

    model: str
    model_version: int
    created: str
    fitted: int
    missing: int
    ids: list[int]
    x: list[int]
    y: list[int]


class MapValuesAnswer(TypedDict):
    """The values of a field on a map: the most frequent ones, the most frequent first, and how many images have each.

    `of` says for each image of the map which of `values` it has, by its place from 0; -1 is another value, or none.
    Of an image with several values, the first counts.
    """

    field: str
    values: list[str]
    counts: list[int]
    of: list[int]


class MapJobAnswer(TypedDict):
    """The job that makes a map."""

    job: str
    url: str
