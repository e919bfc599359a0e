"""The page of an image: picture, record, path, technical data and neighbours; and the form that edits the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import GuardedBlueprint, of_path
from services.web.access.auditing import note_images
from services.web.api.inputs import CollectionPath, ImageId, ImagePath, Input, RecordFilterText, RecordText, checked
from services.web.api.record_inputs import RecordChanges
from services.web.api.records import edit_records
from services.web.clients import WebClients, web_clients
from services.web.languages import marked, said, told
from services.web.pages.fields import read_fields
from services.web.pages.selection import MOST_TICKED
from services.web.problems import FieldError, Problem, invalid
from services.web.search_requests import search
from shared.errors import ArtseekError
from shared.paging import all_items
from shared.records.model import STANDARD, is_link
from shared.rpc.query import Image, SearchOptions
from shared.schemas.images import FieldValue, paths_of, record_of, value_text
from shared.storage import layout
from shared.storage.documents import Document
from shared.storage.original_files import OriginalFiles

_NEIGHBOURS = 12
_MOST = 10_000  # images of one edit
_PAGE = 1000  # images listed at a time

blueprint = GuardedBlueprint("images", __name__)


@dataclass(frozen=True)
class ShownValue:
    """A value on the page: its text, where a link of it leads, its language, and where it came from."""

    text: str
    link: str | None
    lang: str | None
    origin: str


class ManyForm(Input):
    """An edit of the images that are ticked, or else of all that a filter finds: a field and its values, one a line."""

    id: Annotated[list[ImageId], Field(max_length=MOST_TICKED, default_factory=list)]

    filter: RecordFilterText = ""
    text: RecordText = ""
    field: Annotated[str, Field(max_length=80)] = ""
    values: Annotated[str, Field(max_length=100_000)] = ""


@blueprint.get("/collections/<name>/images/<id>", access=of_path("look"))
def image_page(name: str, id: str) -> ResponseReturnValue:  # noqa: A002 -- as the path names it
    """Show an image of a collection."""
    path = checked(ImagePath, {"name": name, "id": id}, "image")
    return _render(path)


@blueprint.post("/collections/<name>/images/<id>/record", access=of_path("change"))
def edit_record(name: str, id: str) -> ResponseReturnValue:  # noqa: A002 -- as the path names it
    """Store what was changed in the form of an image's record; works without scripts."""
    path = checked(ImagePath, {"name": name, "id": id}, "image")
    form = request.form.to_dict()
    fields: dict[str, object] = {
        key.removeprefix("field."): _lines(text)
        for key, text in form.items()
        if key.startswith("field.") and _lines(text) != _lines(form.get(f"was.{key.removeprefix('field.')}", ""))
    }
    if form.get("new_field", "").strip() and form.get("new_values", "").strip():
        fields[form["new_field"].strip()] = _lines(form["new_values"])
    given: dict[str, object] = {"fields": fields}
    if _lines(form.get("labels", "")) != _lines(form.get("was_labels", "")):
        given["labels"] = _lines(form.get("labels", ""))
    try:
        note_images([path.id])
        edit_records(web_clients(), path.name, [path.id], checked(RecordChanges, given, "form"))
    except Problem as problem:
        if problem.status != 422:
            raise
        return _render(path, refused=said(problem), form=form), 422
    return redirect(url_for("images.image_page", name=path.name, id=path.id), 303)


@blueprint.post("/collections/<name>/records", access=of_path("change"))
def edit_many(name: str) -> ResponseReturnValue:
    """Give the images that are ticked, or else all that a filter finds, the same values of a field; without scripts."""
    path = checked(CollectionPath, {"name": name}, "collection")
    form = read_fields(ManyForm, request.form.to_dict(flat=False))
    if not form.field.strip():
        raise invalid([FieldError(field="form.field", message=marked("names no field: choose one"))])
    ids = form.id or _ids_of(web_clients(), path.name, form)
    values = _lines(form.values)
    wanted = form.field.strip()
    given = {"labels": values} if wanted in {"label", "labels"} else {"fields": {wanted: values or None}}
    note_images(ids)
    if ids:
        edit_records(web_clients(), path.name, ids, checked(RecordChanges, given, "form"))
    address = url_for("collections.collection_page", name=path.name, filter=form.filter or None, text=form.text or None)
    return redirect(address, 303)


def _ids_of(clients: WebClients, collection: str, form: ManyForm) -> list[int]:
    def read(offset: int) -> Sequence[Image]:
        page = clients.query.images(collection, limit=_PAGE, offset=offset, filter=form.filter, text=form.text)
        if page.total > _MOST:
            raise Problem(
                422,
                "invalid",
                told(
                    "%(shown)s images are shown, at most %(most)s are edited at once: filter further",
                    shown=page.total,
                    most=_MOST,
                ),
            )
        return page.images

    return [image.id for image in all_items(read, attrgetter("id"), limit=_PAGE)]


def _render(path: ImagePath, *, refused: str | None = None, form: Mapping[str, str] | None = None) -> str:
    clients = web_clients()
    image = clients.query.image(path.name, path.id)
    record = record_of(image)
    paths, vanished_paths = paths_of(image)
    names = [*STANDARD, *(name for name in record["fields"] if name not in STANDARD)]
    return render_template(
        "image.html",
        name=path.name,
        image=image,
        fields={name: _shown(values) for name, values in record["fields"].items()},
        alternatives={name: _shown(values) for name, values in record["alternatives"].items()},
        editable={
            name: "\n".join(value_text(cell["value"]) for cell in record["fields"].get(name, ())) for name in names
        },
        paths=paths,
        vanished_paths=vanished_paths,
        turns=_turns(image),
        flags=[*image.flags, *OriginalFiles(clients.store).flags(image.document.digest or image.digest)],
        neighbours=_neighbours(clients, path),
        refused=refused,
        form=form or {},
    )


def _turns(image: Image) -> tuple[int | None, int | None]:
    """Return the ids of the pages before and behind one of a document; None where there is none."""
    place = image.document
    document = Document(place.digest, place.pages, image.size)

    def id_of(page: int) -> int | None:
        if not 1 <= page <= place.pages:
            return None
        return place.id if page == 1 else layout.image_id(document.page_file(page).digest)

    return (id_of(place.page - 1), id_of(place.page + 1)) if place.pages else (None, None)


def _neighbours(clients: WebClients, path: ImagePath) -> list[Image]:
    """Return the images most like one; none where searches fail at the moment."""
    try:
        found = search(clients, path.name, SearchOptions(k=_NEIGHBOURS + 1, regions=False), image_id=path.id)
    except ArtseekError:
        return []
    return [hit.image for hit in found.hits if hit.image.id != path.id][:_NEIGHBOURS]


def _shown(values: Sequence[FieldValue]) -> list[ShownValue]:
    return [
        ShownValue(
            text=(text := value_text(value["value"])),
            link=text if is_link(text) else None,
            lang=value["lang"],
            origin=value["origin"],
        )
        for value in values
    ]


def _texts(values: Sequence[FieldValue]) -> list[str]:
    return [value_text(value["value"]) for value in values]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
