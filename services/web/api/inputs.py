"""What requests may say: the models that check it, which are also its documentation."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from services.web.problems import FieldError, Problem, invalid
from shared.evaluation import grids
from shared.rpc.query import MAX_BATCH, MAX_K, Metric, Mode, SearchOptions
from shared.rpc.query.options import DEFAULTS, OPTIONS
from shared.state.recall_log import KEPT_DAYS
from shared.storage.layout import ID_BITS

MAX_ID = 2**ID_BITS - 1
MAX_LABEL = 200  # characters
MAX_DIM = 65_536
MAX_NUMBER = 3e38  # what single precision holds
MAX_JSON = 4 * 2**20  # bytes: as many ids as a search takes
MAX_BATCH_JSON = 16 * 2**20  # bytes: as many vectors as a batch takes

_TEXTS = {"texts": True}  # the context of values that come as text: from a path, query or form


def _integer(value: object, info: ValidationInfo) -> object:
    """Read an integer as a query or form has it, or as JSON may write it (``3.0``); leave the rest to be refused."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if info.context is _TEXTS and isinstance(value, str) and len(value) <= 20 and value.isascii():
        return int(value) if value.removeprefix("-").isdecimal() else value
    return value


_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)


def _number(value: object, info: ValidationInfo) -> object:
    """Read a number as a query or form has it; leave the rest to be refused."""
    if info.context is _TEXTS and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


_READ = BeforeValidator(_integer)
_READ_NUMBER = BeforeValidator(_number)
CollectionName = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of the collection.", examples=["default"])
]
ImageId = Annotated[int, Field(ge=1, le=MAX_ID, description="Id of the image.", examples=[4503599627370496]), _READ]
Page = Annotated[int, Field(ge=1, le=1_000_000), _READ]
Label = Annotated[str, Field(max_length=MAX_LABEL, pattern=r"^[^\x00-\x1f\x7f]*$")]


def _option(name: str) -> Any:
    """Return limits and description of a search option; a number that may be left open has 0 for that."""
    option = OPTIONS[name]
    description = f"{option.description}; 0: {option.unset}." if option.unset else f"{option.description}."
    if option.max_items is not None:
        return Field(max_length=option.max_items, description=description)
    return Field(ge=0 if option.unset else option.least, le=option.most, description=description)


Hits = Annotated[int, _option("k"), _READ]


class Input(BaseModel):
    """Refuses what it does not know, and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CollectionPath(Input):
    """Path of a collection."""

    name: CollectionName


class RecallListing(Input):
    """Which days of live recall to list."""

    days: Annotated[int, Field(ge=1, le=KEPT_DAYS, description="Number of days, today's hours among them."), _READ] = 30


class ImagePath(CollectionPath):
    """Path of an image."""

    id: ImageId


class JobPath(Input):
    """Path of a job."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="Id of the job.")]


class EvaluationPath(Input):
    """Path of an evaluation."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="Id of the evaluation.")]


class EvaluationListing(Input):
    """Which evaluations to list."""

    collection: Annotated[
        str, Field(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$", description="Only of this collection; empty: of all.")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=200, description="Number of evaluations."), _READ] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of evaluations to pass over."), _READ] = 0


class EvaluationQueriesListing(Input):
    """Which queries of an evaluation to list."""

    run: Annotated[
        str, Field(pattern=r"^[a-z0-9-]{0,64}$", description="Id of the run; empty: the first of the evaluation.")
    ] = ""
    order: Annotated[Literal["query", "worst"], Field(description="`worst`: those with the lowest AP@k first.")] = (
        "query"
    )
    limit: Annotated[int, Field(ge=1, le=1000, description="Number of queries."), _READ] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of queries to pass over."), _READ] = 0


_GRID = grids.json_schema() | {
    "description": "Settings of an index to judge beside the one in use: a list of objects, or one. A value that is a "
    "list stands for each of its values, and the lists of an object are crossed; "
    f"{grids.MAX_SETTINGS} settings at most.",
    "examples": [{"tables": [4, 8], "hashes": [6, 8], "width": 1.0, "probes": 1}],
}


class NewEvaluation(Input):
    """What to judge, and by what: a sample of the collection's own labelled images, or a kept query set."""

    collection: CollectionName
    k: Annotated[int, Field(ge=1, le=MAX_K - 1, description="Hits of a query that count."), _READ] = 10
    sample: Annotated[
        int, Field(ge=1, le=100_000, description="Labelled images of the collection to judge by, each left out."), _READ
    ] = 0
    queries: Annotated[CollectionName, Field(description="Name that a query set is kept under.")] = ""
    seed: Annotated[int, Field(ge=0, le=MAX_ID, description="Of sample, intervals and grid."), _READ] = 0
    grid: Annotated[Any, WithJsonSchema(_GRID)] = None  # which `shared.evaluation.grids` checks, if it is given at all


class SearchInput(Input):
    """How to search."""

    k: Hits = DEFAULTS.k
    mode: Annotated[Mode, _option("mode")] = DEFAULTS.mode
    metric: Annotated[Metric, _option("metric")] = DEFAULTS.metric
    probes: Annotated[int, _option("probes"), _READ] = 0
    label: Annotated[list[Label], _option("labels")] = []
    among: Annotated[list[ImageId], _option("among")] = []
    like: Annotated[list[ImageId], _option("like")] = []
    unlike: Annotated[list[ImageId], _option("unlike")] = []
    min_score: Annotated[float, _option("min_score"), _READ_NUMBER] = -1.0
    budget: Annotated[int, _option("budget"), _READ] = 0

    def to_options(self) -> SearchOptions:
        """Return the options of the search."""
        return SearchOptions(
            k=self.k,
            mode=self.mode,
            metric=self.metric,
            probes=self.probes or None,
            labels=self.label,
            among=self.among or None,
            like=self.like,
            unlike=self.unlike,
            min_score=self.min_score,
            budget=self.budget or None,
        )


Vector = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False, ge=-MAX_NUMBER, le=MAX_NUMBER)]],
    Field(min_length=1, max_length=MAX_DIM),
]


class SearchByJson(SearchInput):
    """A search for what resembles an image of the collection, or an embedding, or examples alone."""

    id: ImageId = 0
    vector: Annotated[Vector, Field(description="An embedding of the collection's model.")] = []


class SearchBatch(SearchInput):
    """Searches with the same options: for images of the collection, or for embeddings."""

    ids: Annotated[
        list[ImageId], Field(min_length=1, max_length=MAX_BATCH, description="Images of the collection.")
    ] = []
    vectors: Annotated[
        list[Vector], Field(min_length=1, max_length=MAX_BATCH, description="Embeddings of the collection's model.")
    ] = []


class UploadFields(Input):
    """What a form says beside its files."""

    label: Annotated[Label, Field(description="The label of all files of the form; empty: none.")] = ""


class Listing(Input):
    """Which images to list."""

    limit: Annotated[int, Field(ge=1, le=1000, description="Number of images."), _READ] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of images to pass over."), _READ] = 0
    label: Annotated[Label, Field(description="Only images of this class; empty: all.")] = ""


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], values: Mapping[str, object], where: str, *, texts: bool = True) -> Model:
    """Return the values as a model; with `texts`, an integer may be written out.

    Raises:
        Problem: A value does not fit; each is named as `where` and its field.
    """
    try:
        return model.model_validate(values, context=_TEXTS if texts else None)
    except ValidationError as error:
        raise invalid([_field_error(item, where) for item in error.errors(include_url=False)]) from None


def checked_texts(model: type[Model], texts: Mapping[str, Sequence[str]], where: str) -> Model:
    """Return the texts of a query or form as a model; a field given twice is refused unless it is a list."""
    lists = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    twice = [name for name, values in texts.items() if len(values) > 1 and name not in lists]
    if twice:
        raise invalid([FieldError(field=f"{where}.{name[:80]}", message="is given more than once") for name in twice])
    return checked(model, {name: values if name in lists else values[0] for name, values in texts.items()}, where)


def read_json(data: bytes) -> dict[str, object]:
    """Return the object that a JSON body holds.

    Raises:
        Problem: It is not JSON, or no object.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "malformed", f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise invalid([FieldError(field="body", message="should be a JSON object")])
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _field_error(item: Any, where: str) -> FieldError:
    field = ".".join(str(part)[:80] for part in (where, *item["loc"]))
    message = item["msg"][:1].lower() + item["msg"][1:]
    if item["type"] not in {"missing", "extra_forbidden"}:
        message += f", not {ascii(item['input'])[:80]}"
    return FieldError(field=field, message=message)
