"""What requests may say: the models that check it, which are also its documentation."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
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
from shared.file_names import LONGEST_SENT
from shared.messaging.messages import MOST_REJECTED
from shared.rpc.query import MAX_K
from shared.rpc.query.options import MAX_FIELDS, OPTIONS
from shared.state.jobs import Kind, State
from shared.state.recall_log import KEPT_DAYS
from shared.storage.layout import ID_BITS

MAX_ID = 2**ID_BITS - 1
MAX_LABEL = 200  # characters
MAX_LEVEL = 31  # of tiles: no picture has as many
MAX_PLACE = 2**20 - 1  # of a tile
MAX_IDS = 10_000  # images of one request
LONGEST_REASON = 1000  # characters of why a file is no query
MAX_JSON = 4 * 2**20  # bytes: as many ids as a search takes
MAX_TABLE = 64 * 2**20  # bytes of a table of records: read whole, it takes more memory than it has bytes
MAX_BATCH_JSON = 16 * 2**20  # bytes: as many vectors as a batch takes

_TEXTS = {"texts": True}  # the context of values that come as text: from a path, query or form


def _integer(value: object, info: ValidationInfo) -> object:
    """Read an integer as a query or form has it, or as JSON may write it (``3.0``); leave the rest to be refused."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if info.context is _TEXTS and isinstance(value, str) and len(value) <= 20 and value.isascii():
        return int(value) if value.removeprefix("-").isdecimal() else value
    return value


_SECRET = frozenset({"password", "new"})  # fields whose values no answer has
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)


def _number(value: object, info: ValidationInfo) -> object:
    """Read a number as a query or form has it; leave the rest to be refused."""
    if info.context is _TEXTS and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


def _flag(value: object, info: ValidationInfo) -> object:
    """Read a flag as a query has it; leave the rest to be refused."""
    if info.context is _TEXTS and value in {"true", "false"}:
        return value == "true"
    return value


READ_INTEGER = _READ = BeforeValidator(_integer)
READ_FLAG = BeforeValidator(_flag)
READ_FLOAT = BeforeValidator(_number)
CollectionName = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of the collection.", examples=["default"])
]
ImageId = Annotated[int, Field(ge=1, le=MAX_ID, description="Id of the image.", examples=[4503599627370496]), _READ]
ImageIds = Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IDS, description="Ids of the images.")]
Page = Annotated[int, Field(ge=1, le=1_000_000), _READ]
FileName = Annotated[str, Field(min_length=1, max_length=LONGEST_SENT)]
Label = Annotated[str, Field(max_length=MAX_LABEL, pattern=r"^[^\x00-\x1f\x7f]*$")]


def _filter(value: object) -> object:
    """Read a filter as JSON has it, an object, or as a query or form has it: the text of one."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


RecordFilterText = Annotated[
    str,
    Field(max_length=200_000),
    BeforeValidator(_filter),
    WithJsonSchema(
        {
            "type": ["string", "object"],
            "maxLength": 200_000,
            "description": f"{OPTIONS['filter'].description}; numbers and dates may have `from` and `to` instead of "
            "values; an empty value means images without any. In JSON, it may be an object.",
            "examples": ['{"creator": ["Rembrandt van Rijn"], "date": {"from": "1650", "to": "1700"}}'],
        }
    ),
]
RecordText = Annotated[str, Field(max_length=1000, description=f"{OPTIONS['text'].description}.")]
RecordField = Annotated[str, Field(max_length=80, pattern=r"^(-?[a-z][a-z0-9_]{0,62})?$")]
RecordName = Annotated[str, Field(max_length=80, pattern=r"^([a-z][a-z0-9_]{0,62})?$")]


class Input(BaseModel):
    """Refuses what it does not know, and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CollectionPath(Input):
    """Path of a collection."""

    name: CollectionName


class CollectionChanges(Input):
    """What is to be changed of a collection."""

    name: Annotated[CollectionName, Field(description="The name that it is to have.")]


class RegionsSwitch(Input):
    """Whether regions of a collection's images are to be indexed."""

    regions: Annotated[bool, Field(description="Whether the regions of its images are to be indexed.")]


class RecallListing(Input):
    """Which days of live recall to list."""

    days: Annotated[int, Field(ge=1, le=KEPT_DAYS, description="Number of days, today's hours among them."), _READ] = 30


class ImagePath(CollectionPath):
    """Path of an image."""

    id: ImageId


class TilePath(ImagePath):
    """Path of a tile of an image."""

    level: Annotated[int, Field(ge=0, le=MAX_LEVEL, description="Level; the last has all pixels."), _READ]
    x: Annotated[int, Field(ge=0, le=MAX_PLACE, description="Column of the tile, from 0."), _READ]
    y: Annotated[int, Field(ge=0, le=MAX_PLACE, description="Row of the tile, from 0."), _READ]


class DeletionOptions(Input):
    """How to delete an image."""

    purge: Annotated[
        bool, Field(description="Whether to remove it for good: it cannot be restored from the trash."), READ_FLAG
    ] = False


class Deletion(Input):
    """Which images to delete."""

    ids: ImageIds
    purge: Annotated[
        bool, Field(description="Whether to remove them for good: they cannot be restored from the trash.")
    ] = False
    from_trash: Annotated[
        bool,
        Field(description="Whether to remove for good only images of the trash that the collection has not got back."),
    ] = False


class TrashListing(Input):
    """Which images of the trash to list."""

    limit: Annotated[int, Field(ge=1, le=1000, description="Number of images."), _READ] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of images to pass over."), _READ] = 0


class JobPath(Input):
    """Path of a job."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="Id of the job.")]


class JobListing(Input):
    """Which jobs to list."""

    collection: Annotated[
        str, Field(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$", description="Only of this collection; empty: of all.")
    ] = ""
    kind: Annotated[Literal[Kind, ""], Field(description="Only of this kind; empty: of any.")] = ""
    state: Annotated[Literal[State, ""], Field(description="Only in this state; empty: in any.")] = ""
    limit: Annotated[int, Field(ge=1, le=200, description="Number of jobs."), _READ] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of jobs to pass over."), _READ] = 0


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


class RejectedFile(Input):
    """A file that was to be a query and was refused before it was sent: its name, a code, and the reason."""

    name: Annotated[str, Field(max_length=LONGEST_SENT)]
    code: Annotated[str, Field(max_length=40)]
    reason: Annotated[str, Field(max_length=LONGEST_REASON)]


class NewEvaluation(Input):
    """What to judge, and by what: a sample of the collection's own labelled images, or a kept query set."""

    collection: CollectionName
    k: Annotated[int, Field(ge=1, le=MAX_K - 1, description="Hits of a query that count."), _READ] = 10
    sample: Annotated[
        int, Field(ge=1, le=100_000, description="Labelled images of the collection to judge by, each left out."), _READ
    ] = 0
    queries: Annotated[CollectionName, Field(description="Name that a query set is kept under.")] = ""
    seed: Annotated[int, Field(ge=0, le=MAX_ID, description="Of sample, intervals and grid."), _READ] = 0
    field: Annotated[RecordName, Field(min_length=1, description="Field whose values are the classes.")] = "label"
    rejected: list[RejectedFile] = Field(
        default_factory=list,
        max_length=MOST_REJECTED,
        description="Files that were to be queries and were refused before they were sent: the report names them.",
    )
    grid: Annotated[Any, WithJsonSchema(_GRID)] = None  # which `shared.evaluation.grids` checks, if it is given at all


class UploadFields(Input):
    """What a form says beside its files."""

    label: Annotated[Label, Field(description="The label of all files of the form; empty: none.")] = ""
    keep_labels: Annotated[
        bool,
        Field(description="Whether images that are there keep their labels; otherwise the newer label counts."),
        READ_FLAG,
    ] = False
    names: list[FileName] = Field(
        default_factory=list,
        description="What each file is to be known by, in their order, such as its path in a folder; none: its name.",
    )


class Listing(Input):
    """Which images to list."""

    limit: Annotated[int, Field(ge=1, le=1000, description="Number of images."), _READ] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_ID, description="Number of images to pass over."), _READ] = 0
    label: Annotated[Label, Field(description="Only images of this class; empty: all.")] = ""
    filter: RecordFilterText = ""
    text: RecordText = ""
    sort: Annotated[
        RecordField,
        Field(description="Field whose values give the order, backwards after `-`; empty: the latest added first."),
    ] = ""
    fields: Annotated[
        list[RecordName], Field(max_length=MAX_FIELDS, description="Fields of the records that images come with.")
    ] = []


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
    if not texts:
        empty: Model = _without_texts(model, where)
        return empty
    lists = _lists_of(model)
    twice = [name for name, values in texts.items() if len(values) > 1 and name not in lists]
    if twice:
        raise invalid([FieldError(field=f"{where}.{name[:80]}", message="is given more than once") for name in twice])
    return checked(model, {name: values if name in lists else values[0] for name, values in texts.items()}, where)


@cache
def _without_texts(model: type[Model], where: str) -> Model:
    """Return the model of which nothing is given: the same each time, since it cannot be changed.

    Raises:
        Problem: Something has to be given.
    """
    return checked(model, {}, where)


@cache
def _lists_of(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that are lists."""
    return frozenset(name for name, field in model.model_fields.items() if get_origin(field.annotation) is list)


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
    if item["type"] not in {"missing", "extra_forbidden"} and not _SECRET.intersection(item["loc"]):
        message += f", not {ascii(item['input'])[:80]}"
    return FieldError(field=field, message=message)
