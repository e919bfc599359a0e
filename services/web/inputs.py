"""What requests may say: the models that check it, which are also its documentation."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from services.web.problems import FieldError, Problem, invalid
from shared.layout import ID_BITS

MAX_ID = 2**ID_BITS - 1
MAX_K = 1000
MAX_LABEL = 200  # characters
MAX_JSON = 64 * 1024  # bytes


_TEXTS = {"texts": True}  # the context of values that come as text: from a path, query or form


def _integer(value: object, info: ValidationInfo) -> object:
    """Read an integer as a query or form has it, or as JSON may write it (``3.0``); leave the rest to be refused."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if info.context is _TEXTS and isinstance(value, str) and len(value) <= 20 and value.isascii():
        return int(value) if value.removeprefix("-").isdecimal() else value
    return value


_READ = BeforeValidator(_integer)
CollectionName = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of the collection.", examples=["default"])
]
ImageId = Annotated[int, Field(ge=1, le=MAX_ID, description="Id of the image.", examples=[4503599627370496]), _READ]
Page = Annotated[int, Field(ge=1, le=1_000_000), _READ]
Hits = Annotated[int, Field(ge=1, le=MAX_K, description="Number of hits."), _READ]
Label = Annotated[str, Field(max_length=MAX_LABEL, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Input(BaseModel):
    """Refuses what it does not know, and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CollectionPath(Input):
    """Path of a collection."""

    name: CollectionName


class ImagePath(CollectionPath):
    """Path of an image."""

    id: ImageId


class JobPath(Input):
    """Path of a job."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="Id of the job.")]


class SearchOptions(Input):
    """How to search."""

    k: Hits = 10
    mode: Annotated[
        Literal["auto", "lsh", "exact"],
        Field(description="`exact` ranks all images, `lsh` the candidates of the index, `auto` chooses by size."),
    ] = "auto"
    metric: Annotated[Literal["cosine", "euclidean"], Field(description="How likeness is measured.")] = "cosine"
    probes: Annotated[
        int, Field(ge=0, le=1024, description="Buckets probed per table by an LSH search; 0: as fitted."), _READ
    ] = 0


class SearchById(SearchOptions):
    """A search for what resembles an image of the collection."""

    id: ImageId


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
    """Return the texts of a query or form as a model; a field given twice is refused."""
    twice = [name for name, values in texts.items() if len(values) > 1]
    if twice:
        raise invalid([FieldError(field=f"{where}.{name[:80]}", message="is given more than once") for name in twice])
    return checked(model, {name: values[0] for name, values in texts.items()}, where)


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
