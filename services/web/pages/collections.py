"""The pages for people: search, collections, and one collection. All HTML is made here; scripts only move it about."""

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from services.web.api.inputs import (
    CollectionName,
    CollectionPath,
    Hits,
    ImageId,
    Input,
    Label,
    Page,
    SearchOptions,
    checked,
    checked_texts,
)
from services.web.clients import parts
from services.web.pages import formatting
from services.web.problems import FieldError, invalid
from services.web.search_requests import check_size, search
from services.web.uploads import files_of, size_of
from shared.errors import NotFound
from shared.rpc.query import Collection, Image, SearchResponse

K_CHOICES = (12, 24, 48, 96)
_PAGE = 48  # images of one page of a collection
_SAMPLES, _PLACES = 12, 4  # images shown to begin with, and from how many places of the collection
_MOSAIC = 4  # images that stand for a collection
_FORM_MARGIN = 64 * 1024  # bytes of a form beside its file

blueprint = Blueprint("pages", __name__)
formatting.attach(blueprint)
Model = TypeVar("Model", bound=BaseModel)


class Asked(SearchOptions):
    """What the search page is asked for."""

    k: Hits = K_CHOICES[0]
    collection: CollectionName | None = None
    id: ImageId | None = None

    def link(self, **changes: object) -> str:
        """Return the address of the search page with these values, leaving out what goes without saying."""
        values = self.model_dump(exclude_defaults=True) | changes
        given = {k: v for k, v in values.items() if v is not None}
        return url_for("pages.search_page") + "?" + urlencode(given, doseq=True)


class Leaf(Input):
    """Which images of a collection are asked for."""

    page: Page = 1
    label: Label = ""


# Search


@blueprint.get("/")
def search_page() -> ResponseReturnValue:
    """Show the search page, with the answer where an image of the collection is asked for."""
    asked = _texts(Asked, request.args.to_dict(flat=False))
    collections = parts().query.collections()
    chosen = _chosen(collections, asked.collection)
    asked = asked.model_copy(update={"collection": chosen.name if chosen else None})
    if chosen is None or not chosen.images:
        return render_template("search.html", asked=asked, collections=collections, chosen=chosen, samples=[])
    if asked.id is None:
        return _search_page(asked, collections, chosen, samples=_samples(chosen, _SAMPLES))
    query = parts().query.image(chosen.name, asked.id)
    return _search_page(
        asked, collections, chosen, query=query, found=search(parts(), chosen.name, asked, image_id=asked.id)
    )


@blueprint.post("/search")
def search_by_file() -> ResponseReturnValue:
    """Show the search page with the answer to a file, for browsers without scripts."""
    asked, found = _by_file()
    collections = parts().query.collections()
    return _search_page(asked, collections, _chosen(collections, asked.collection), found=found)


@blueprint.get("/results")
def results_by_id() -> ResponseReturnValue:
    """Return the part of the search page that shows what resembles an image of the collection."""
    asked = _texts(Asked, request.args.to_dict(flat=False))
    if asked.collection is None or asked.id is None:
        raise invalid([FieldError(field="query", message="collection and id are needed")])
    query = parts().query.image(asked.collection, asked.id)
    found = search(parts(), asked.collection, asked, image_id=asked.id)
    return render_template("_results.html", asked=asked, found=found, query=query, k_choices=K_CHOICES)


@blueprint.post("/results")
def results_by_file() -> ResponseReturnValue:
    """Return the part of the search page that shows the answer to a file."""
    asked, found = _by_file()
    return render_template("_results.html", asked=asked, found=found, query=None)


def _by_file() -> tuple[Asked, SearchResponse]:
    request.max_content_length = parts().settings.max_file_bytes + _FORM_MARGIN
    asked = _texts(Asked, request.form.to_dict(flat=False))
    if asked.collection is None:
        raise invalid([FieldError(field="collection", message="choose a collection to search in")])
    file = files_of(request.files, "image")[0]
    check_size(parts(), size_of(file))
    return asked, search(parts(), asked.collection, asked, image=file.stream.read())


def _search_page(
    asked: Asked,
    collections: Sequence[Collection],
    chosen: Collection | None,
    *,
    query: Image | None = None,
    found: SearchResponse | None = None,
    samples: Sequence[Image] = (),
) -> str:
    return render_template(
        "search.html",
        asked=asked,
        collections=collections,
        chosen=chosen,
        query=query,
        found=found,
        samples=samples,
        k_choices=sorted({*K_CHOICES, asked.k}),
        labels=_labels(chosen, asked) if chosen else [],
    )


def _labels(collection: Collection, asked: Asked) -> list[tuple[str, int]]:
    """Return the classes to choose from, with their sizes, by name; those asked for are among them."""
    return sorted({**dict.fromkeys(filter(None, asked.label), 0), **collection.classes}.items())


def _chosen(collections: Sequence[Collection], name: str | None) -> Collection | None:
    """Return the collection of this name; without a name, `default` or the largest."""
    for collection in collections:
        if collection.name == (name or "default"):
            return collection
    if name:
        raise NotFound(f"there is no collection {name!r}")
    return max(collections, key=lambda collection: collection.images, default=None)


def _samples(collection: Collection, number: int) -> list[Image]:
    """Return some images from all over a collection, to begin with."""
    each = number // _PLACES
    offsets = sorted({place * max(0, collection.images - each) // (_PLACES - 1) for place in range(_PLACES)})
    found = [parts().query.images(collection.name, limit=each, offset=offset).images for offset in offsets]
    return list({image.id: image for images in found for image in images}.values())


# Collections


@blueprint.get("/collections")
def collections_page() -> ResponseReturnValue:
    """Show all collections; asked for one by name, go there."""
    if "name" in request.args:
        path = checked(CollectionPath, {"name": request.args["name"].strip()}, "collection")
        return redirect(url_for("pages.collection_page", name=path.name))
    collections = parts().query.collections()
    mosaics = {item.name: _samples(item, _MOSAIC) for item in collections}
    return render_template("collections.html", collections=collections, mosaics=mosaics)


@blueprint.get("/collections/<name>")
def collection_page(name: str) -> ResponseReturnValue:
    """Show a collection; one that is not there yet can be begun with an upload."""
    path = checked(CollectionPath, {"name": name}, "collection")
    leaf = _texts(Leaf, request.args.to_dict(flat=False))
    settings = parts().settings
    limits = {"max_file_bytes": settings.max_file_bytes, "max_upload_bytes": settings.max_upload_bytes}
    try:
        collection = parts().query.collection(path.name)
    except NotFound:
        return render_template("collection.html", name=path.name, collection=None, limits=limits)
    found = parts().query.images(path.name, limit=_PAGE, offset=(leaf.page - 1) * _PAGE, label=leaf.label)
    return render_template(
        "collection.html",
        name=path.name,
        collection=collection,
        index=parts().catalog.current_report(path.name),
        classes=sorted(collection.classes.items(), key=lambda item: (-item[1], item[0])),
        images=found.images,
        total=found.total,
        leaf=leaf,
        pages=max(1, -(-found.total // _PAGE)),
        limits=limits,
    )


def _texts(model: type[Model], texts: dict[str, list[str]]) -> Model:
    """Return what is known of a page's query or form; a link may carry more, and leave fields empty."""
    known = {name: values for name, values in texts.items() if name in model.model_fields and values != [""]}
    return checked_texts(model, known, "page")
