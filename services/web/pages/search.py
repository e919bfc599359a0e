"""The search page: search by an uploaded file, or by an image of the collection.

The server renders all HTML. Scripts only move the rendered parts into the page.
"""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from flask import redirect, render_template, request
from flask.typing import ResponseReturnValue

from services.web.access import GuardedBlueprint, authorize, each, of_view, seen_collections
from services.web.clients import web_clients
from services.web.languages import marked, told
from services.web.pages.facets import Facets, hit_groups, sort_choices
from services.web.pages.fields import read_fields
from services.web.pages.result_view import QueryFile, ResultView, view_across
from services.web.pages.samples import sample_images
from services.web.pages.search_form import K_CHOICES, SearchForm
from services.web.problems import FieldError, invalid
from services.web.query_keeping import keep, kept_query
from services.web.search_requests import (
    chosen_collections,
    fetched,
    prove,
    read_files,
    search,
    search_across,
)
from services.web.uploads import files_of
from shared.errors import NotFound, Unavailable
from shared.file_names import clean_name
from shared.proof.measured import FALSE_ALARMS
from shared.records.filters import filter_to_json
from shared.records.model import LABEL
from shared.rpc.query import METRICS, Collection, Image, ListImagesResponse
from shared.rpc.query.options import MODE_DESCRIPTIONS
from shared.storage.kept_queries import KeptQuery

_SAMPLES = 12  # images shown before the first search
_MOST_ASKED = 20  # collections beside the chosen one whose fields are offered to sort and group by
_SHOWN = 1200  # pixels of either side of a fetched picture as the page shows it
_NOT_KEPT = marked(
    "its picture is not kept, since many others were searched for lately; search for it again in a while"
)
_NONE_KEPT = marked("files that are searched for are not kept here")
_FORM_MARGIN = 64 * 1024  # bytes of a form beside its file

blueprint = GuardedBlueprint("search", __name__)


@dataclass(frozen=True)
class QueryPicture:
    """A picture that the service has, to search for it: a JPEG of it, and its own size in pixels."""

    jpeg: bytes
    width: int
    height: int
    name: str

    @property
    def data(self) -> str:
        """The JPEG as text: the page shows it without asking the other host."""
        return base64.b64encode(self.jpeg).decode()


@blueprint.get("/", access=each("look"))
def search_page() -> ResponseReturnValue:
    """Show the search page; if its address says what to search for, with what is found."""
    form = read_fields(SearchForm, request.args.to_dict(flat=False))
    if form.collection is not None:
        authorize(form.collection)
    collections = seen_collections()
    collection = _select_collection(collections, form.collection)
    form = form.model_copy(update={"collection": collection.name if collection else None})
    if collection is None or not collection.images:
        return render_template("search.html", form=form, collections=collections, collection=collection, samples=[])
    if form.names_query:
        query_image, picture, found = _search_by_name(form, collection.name)
        return _render(form, collections, collection, query_image=query_image, picture=picture, found=found)
    if form.wanted or form.sort:
        return _render(form, collections, collection, listing=_listing(form, collection.name))
    return _render(form, collections, collection, samples=sample_images(collection, _SAMPLES))


@blueprint.post("/search", access=of_view("look"))
def search_by_file() -> ResponseReturnValue:
    """Lead to the address of a search for an uploaded file; or show what it finds, if it has none. Without scripts."""
    form, found = _search_by_file()
    if form.upload:
        return redirect(form.address(found.response), 303)
    collections = seen_collections()
    return _render(form, collections, _select_collection(collections, form.collection), found=found)


@blueprint.get("/results", access=of_view("look"))
def results_by_name() -> ResponseReturnValue:
    """Return the results part of the search page for whatever an address can say to search for."""
    form = read_fields(SearchForm, request.args.to_dict(flat=False))
    if form.collection is None or not form.names_query:
        message = "collection, and id, url, upload, like or unlike are needed"
        raise invalid([FieldError(field="query", message=message)])
    authorize(form.collection)
    query_image, picture, found = _search_by_name(form, form.collection)
    return _render_results(form, found, query_image, picture)


@blueprint.post("/results", access=of_view("look"))
def results_by_file() -> ResponseReturnValue:
    """Return the results part of the search page for an uploaded file."""
    form, found = _search_by_file()
    return _render_results(form, found, None)


def _render_results(
    form: SearchForm, found: ResultView, query_image: Image | None, picture: QueryPicture | None = None
) -> str:
    return render_template(
        "_results.html",
        form=form,
        response=found.response,
        found=found,
        query_image=query_image,
        picture=picture,
        groups=hit_groups(found.response, found.places),
        same=found.same,
        compared=found.compared,
        facets=_facets(form),
    )


def _listing(form: SearchForm, collection: str) -> ListImagesResponse:
    """Return the images whose records are wanted, where no picture is searched for."""
    return web_clients().query.images(
        collection,
        limit=form.k,
        filter=filter_to_json(form.wanted),
        text=form.text,
        sort=form.sort,
        fields=form.fields,
    )


def _search_by_name(form: SearchForm, collection: str) -> tuple[Image | None, QueryPicture | None, ResultView]:
    """Search for what an address names; returns the image of the collection or the picture too, if it names one."""
    named = [name for name in ("id", "url", "upload") if getattr(form, name)]
    if len(named) > 1:
        message = f"is given beside {named[0]}: one of the two is taken"
        raise invalid([FieldError(field=f"query.{named[1]}", message=message)])
    if form.url:
        picture, found = _search_by_url(form, collection)
        return None, picture, found
    if form.upload:
        picture, found = _search_by_kept_files(form, collection)
        return None, picture, found
    query_image, found = _search_by_id(form, collection)
    return query_image, None, found


def _search_by_id(form: SearchForm, collection: str) -> tuple[Image | None, ResultView]:
    """Search for an image of the collection, or for what the examples have in common; returns the image too."""
    query_image = None if form.id is None else web_clients().query.image(collection, form.id)
    return query_image, _found(form, collection, image_id=form.id or 0)


def _found(form: SearchForm, collection: str, *, images: Sequence[bytes] = (), image_id: int = 0) -> ResultView:
    """Search for pictures or an image, in the collection or in all that share its model."""
    clients, options, image = web_clients(), form.to_options(), images[0] if images else None
    if form.everywhere:
        names = chosen_collections([], first=collection)
        across = search_across(clients, names, options, images=images, image_id=image_id, box=form.box)
        if not form.proof or not (images or image_id):
            return view_across(across)
        return view_across(across, prove(clients, across, options, image=image, image_id=image_id, box=form.box))
    response = search(clients, collection, options, images=images, image_id=image_id, box=form.box)
    if not form.proof or not (images or image_id):
        return ResultView(response)
    proofs = prove(clients, response, options, collection=collection, image=image, image_id=image_id, box=form.box)
    return ResultView(response, proofs)


def _search_by_file() -> tuple[SearchForm, ResultView]:
    """Search for the file of a form, and keep it; returns the form, which names it then, too."""
    clients = web_clients()
    request.max_content_length = clients.settings.max_query_bytes + _FORM_MARGIN
    form = read_fields(SearchForm, request.form.to_dict(flat=False)).model_copy(
        update={"id": None, "url": "", "upload": []}
    )
    if form.collection is None:
        raise invalid([FieldError(field="collection", message="choose a collection to search in")])
    authorize(form.collection)
    files = files_of(request.files, "image")
    images = read_files(clients, files, box=form.box, proof=form.proof)
    found = _found(form, form.collection, images=images)
    days = clients.settings.kept_query_days
    kept = [
        keep(clients, form.collection, image, clean_name(file.filename))
        for image, file in zip(images, files, strict=True)
    ]
    whole = [query for query in kept if query is not None]
    if len(whole) < len(kept):
        return form, replace(found, no_address=_NOT_KEPT if days else _NONE_KEPT)
    return form.model_copy(update={"upload": [query.digest for query in whole]}), _with_files(form, found, whole)


def _search_by_url(form: SearchForm, collection: str) -> tuple[QueryPicture, ResultView]:
    with fetched(web_clients(), form.url) as image:
        found = _found(form, collection, images=[image])
        name = urlsplit(form.url).path.rpartition("/")[2][:120] or urlsplit(form.url).netloc
        return _shown(image, name), found


def _search_by_kept_files(form: SearchForm, collection: str) -> tuple[QueryPicture, ResultView]:
    kept = [kept_query(web_clients(), collection, digest) for digest in form.upload]
    if len(kept) > 1 and (form.box or form.proof):
        message = "is for a single picture, and the address names several: leave one, or this out"
        raise invalid([FieldError(field=f"query.{'box' if form.box else 'proof'}", message=message)])
    found = _found(form, collection, images=[image for _, image in kept])
    first, image = kept[0]
    return _shown(image, first.name), _with_files(form, found, [query for query, _ in kept])


def _with_files(form: SearchForm, found: ResultView, kept: Sequence[KeptQuery]) -> ResultView:
    """Return what was found with the files that were searched for, and until when they all are kept."""
    digests = [query.digest for query in kept]
    files = [
        QueryFile(query.name, form.link(upload=digests[:place] + digests[place + 1 :]))
        for place, query in enumerate(kept)
    ]
    days = web_clients().settings.kept_query_days
    return replace(found, files=files if len(files) > 1 else [], kept_until=min(query.until(days) for query in kept))


def _shown(image: bytes, name: str) -> QueryPicture:
    decoder = web_clients().decoder
    info = decoder.identify(image)
    return QueryPicture(decoder.thumbnail(image, box=_SHOWN), info.width, info.height, name)


def _render(
    form: SearchForm,
    collections: Sequence[Collection],
    collection: Collection | None,
    *,
    query_image: Image | None = None,
    picture: QueryPicture | None = None,
    found: ResultView | None = None,
    samples: Sequence[Image] = (),
    listing: ListImagesResponse | None = None,
) -> str:
    facets = None
    if found is not None or listing is not None:
        facets = _facets(form)
        others = [] if found is None else [name for name in found.searched if name != form.collection]
        present = sorted({*facets.present, *_fields_of(others[:_MOST_ASKED])})
    else:
        present = _fields_of([] if collection is None else [collection.name])
    return render_template(
        "search.html",
        form=form,
        collections=collections,
        collection=collection,
        query_image=query_image,
        picture=picture,
        response=None if found is None else found.response,
        found=found,
        samples=samples,
        listing=listing,
        groups=[] if found is None else hit_groups(found.response, found.places),
        same={} if found is None else found.same,
        compared=0 if found is None else found.compared,
        measured=FALSE_ALARMS if web_clients().settings.proof_hits else None,
        facets=facets,
        sorts=sort_choices(present),
        present=present,
        k_choices=sorted({*K_CHOICES, form.k}),
        modes=MODE_DESCRIPTIONS,
        metrics=METRICS,
        defaults={name: str(SearchForm.model_fields[name].default) for name in ("k", "mode", "metric")},
        labels=_label_choices(collection, form) if collection else [],
    )


def _facets(form: SearchForm) -> Facets:
    """Return the facets of the images that may be found; none where they are those of several collections."""
    facets = form.facets()
    return replace(facets, fields=[]) if form.everywhere and form.names_query else facets


def _fields_of(collections: Sequence[str]) -> list[str]:
    """Return the fields that the records of collections have."""
    fields: set[str] = set()
    for name in collections:
        with suppress(NotFound, Unavailable):  # it has just gone, or the query service is of an older version
            fields.update(web_clients().query.facets(name, fields=[LABEL], limit=1).types)
    return sorted(fields)


def _label_choices(collection: Collection, form: SearchForm) -> list[tuple[str, int]]:
    """Return the labels to choose from with their image counts, by name; the form's labels are among them."""
    return sorted({**dict.fromkeys(filter(None, form.label), 0), **collection.classes}.items())


def _select_collection(collections: Sequence[Collection], name: str | None) -> Collection | None:
    """Return the collection of this name; without a name, `default`, or else the largest collection."""
    for collection in collections:
        if collection.name == (name or "default"):
            return collection
    if name:
        raise NotFound(told("there is no collection %(name)s", name=repr(name)))
    return max(collections, key=lambda collection: collection.images, default=None)
