"""The search page: search by an uploaded file, or by an image of the collection.

The server renders all HTML. Scripts only move the rendered parts into the page.
"""

from collections.abc import Sequence
from urllib.parse import urlencode

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from services.web.api.inputs import CollectionName, Hits, ImageId, SearchInput
from services.web.clients import web_clients
from services.web.pages.fields import read_fields
from services.web.pages.samples import sample_images
from services.web.problems import FieldError, invalid
from services.web.search_requests import check_size, search
from services.web.uploads import files_of, size_of
from shared.errors import NotFound
from shared.rpc.query import METRICS, Collection, Image, SearchResponse
from shared.rpc.query.options import MODE_DESCRIPTIONS

K_CHOICES = (12, 24, 48, 96)
_SAMPLES = 12  # images shown before the first search
_FORM_MARGIN = 64 * 1024  # bytes of a form beside its file

blueprint = Blueprint("search", __name__)


class SearchForm(SearchInput):
    """The fields of the search page, in its address or its form."""

    k: Hits = K_CHOICES[0]
    collection: CollectionName | None = None
    id: ImageId | None = None

    def link(self, **changes: object) -> str:
        """Return the address of the search page with these fields and changes, default values left out."""
        values = self.model_dump(exclude_defaults=True) | changes
        present = {name: value for name, value in values.items() if value is not None}
        return url_for("search.search_page") + "?" + urlencode(present, doseq=True)


@blueprint.get("/")
def search_page() -> ResponseReturnValue:
    """Show the search page; if the address holds an image id, with the images similar to that image."""
    form = read_fields(SearchForm, request.args.to_dict(flat=False))
    collections = web_clients().query.collections()
    collection = _select_collection(collections, form.collection)
    form = form.model_copy(update={"collection": collection.name if collection else None})
    if collection is None or not collection.images:
        return render_template("search.html", form=form, collections=collections, collection=collection, samples=[])
    if form.id is None:
        return _render(form, collections, collection, samples=sample_images(collection, _SAMPLES))
    query_image = web_clients().query.image(collection.name, form.id)
    response = search(web_clients(), collection.name, form.to_options(), image_id=form.id)
    return _render(form, collections, collection, query_image=query_image, response=response)


@blueprint.post("/search")
def search_by_file() -> ResponseReturnValue:
    """Show the search page with the images similar to an uploaded file, for browsers without scripts."""
    form, response = _search_by_file()
    collections = web_clients().query.collections()
    return _render(form, collections, _select_collection(collections, form.collection), response=response)


@blueprint.get("/results")
def results_by_id() -> ResponseReturnValue:
    """Return the results part of the search page for an image of the collection."""
    form = read_fields(SearchForm, request.args.to_dict(flat=False))
    if form.collection is None or form.id is None:
        raise invalid([FieldError(field="query", message="collection and id are needed")])
    query_image = web_clients().query.image(form.collection, form.id)
    response = search(web_clients(), form.collection, form.to_options(), image_id=form.id)
    return render_template("_results.html", form=form, response=response, query_image=query_image)


@blueprint.post("/results")
def results_by_file() -> ResponseReturnValue:
    """Return the results part of the search page for an uploaded file."""
    form, response = _search_by_file()
    return render_template("_results.html", form=form, response=response, query_image=None)


def _search_by_file() -> tuple[SearchForm, SearchResponse]:
    request.max_content_length = web_clients().settings.max_file_bytes + _FORM_MARGIN
    form = read_fields(SearchForm, request.form.to_dict(flat=False))
    if form.collection is None:
        raise invalid([FieldError(field="collection", message="choose a collection to search in")])
    file = files_of(request.files, "image")[0]
    check_size(web_clients(), size_of(file))
    return form, search(web_clients(), form.collection, form.to_options(), image=file.stream.read())


def _render(
    form: SearchForm,
    collections: Sequence[Collection],
    collection: Collection | None,
    *,
    query_image: Image | None = None,
    response: SearchResponse | None = None,
    samples: Sequence[Image] = (),
) -> str:
    return render_template(
        "search.html",
        form=form,
        collections=collections,
        collection=collection,
        query_image=query_image,
        response=response,
        samples=samples,
        k_choices=sorted({*K_CHOICES, form.k}),
        modes=MODE_DESCRIPTIONS,
        metrics=METRICS,
        defaults={name: str(SearchForm.model_fields[name].default) for name in ("k", "mode", "metric")},
        labels=_label_choices(collection, form) if collection else [],
    )


def _label_choices(collection: Collection, form: SearchForm) -> list[tuple[str, int]]:
    """Return the labels to choose from with their image counts, by name; the form's labels are among them."""
    return sorted({**dict.fromkeys(filter(None, form.label), 0), **collection.classes}.items())


def _select_collection(collections: Sequence[Collection], name: str | None) -> Collection | None:
    """Return the collection of this name; without a name, `default`, or else the largest collection."""
    for collection in collections:
        if collection.name == (name or "default"):
            return collection
    if name:
        raise NotFound(f"there is no collection {name!r}")
    return max(collections, key=lambda collection: collection.images, default=None)
