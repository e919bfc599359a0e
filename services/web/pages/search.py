"""The search page: search by an uploaded file, or by an image of the collection.

The server renders all HTML. Scripts only move the rendered parts into the page.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from services.web.access import GuardedBlueprint, authorize, each, of_view, seen_collections
from services.web.api.inputs import CollectionName, ImageId
from services.web.api.search_inputs import Hits, PictureSearchInput, PictureUrl
from services.web.clients import web_clients
from services.web.pages.facets import Facets, facets_of, hit_groups, sort_choices, with_labels
from services.web.pages.fields import read_fields
from services.web.pages.query_parts import Example, examples_of
from services.web.pages.samples import sample_images
from services.web.problems import FieldError, invalid
from services.web.search_requests import check_size, fetched, prove, search
from services.web.uploads import files_of, size_of
from shared.errors import NotFound, Unavailable
from shared.proof.findings import Proof
from shared.proof.measured import FALSE_ALARMS
from shared.records.filters import RecordFilter, filter_to_json, parse_filter
from shared.records.model import LABEL
from shared.rpc.query import METRICS, Collection, Image, ListImagesResponse, SearchResponse
from shared.rpc.query.options import MODE_DESCRIPTIONS
from shared.schemas.proof import ProofAnswer, proof_answer

K_CHOICES = (12, 24, 48, 96)
_SAMPLES = 12  # images shown before the first search
_SHOWN = 1200  # pixels of either side of a fetched picture as the page shows it
_FORM_MARGIN = 64 * 1024  # bytes of a form beside its file

blueprint = GuardedBlueprint("search", __name__)


class SearchForm(PictureSearchInput):
    """The fields of the search page, in its address or its form."""

    k: Hits = K_CHOICES[0]
    collection: CollectionName | None = None
    id: ImageId | None = None
    url: PictureUrl = ""

    def link(self, **changes: object) -> str:
        """Return the address of the search page with these fields and changes, default values left out.

        Another image to search for takes the place of all that was searched for.
        """
        another = {"url": "", "box": "", "like": [], "unlike": []} if "id" in changes else {}
        values = self.model_dump(exclude_defaults=True) | another | changes
        present = {
            name: "true" if value is True else value
            for name, value in values.items()
            if value is not None and value not in ("", [])
        }
        return url_for("search.search_page") + "?" + urlencode(present, doseq=True)

    def examples(self, response: SearchResponse) -> list[Example]:
        """Return the examples of the search that was answered so, in their order."""
        return examples_of(response, self.collection or "", self.like, self.unlike, self.link)

    @property
    def wanted(self) -> RecordFilter:
        """The filter, with the classes."""
        return with_labels(parse_filter(self.filter, self.text), list(filter(None, self.label)))

    def facets(self) -> Facets:
        """Return the facets of the images that may be found."""
        changed = parse_filter(self.filter)
        return facets_of(
            web_clients().query,
            self.collection or "",
            self.wanted,
            changed,
            lambda text: self.link(filter=text) + "#found",
        )


@dataclass(frozen=True)
class QueryPicture:
    """A picture that the service fetched to search for it: a JPEG of it, and its own size in pixels."""

    jpeg: bytes
    width: int
    height: int
    name: str

    @property
    def data(self) -> str:
        """The JPEG as text: the page shows it without asking the other host."""
        return base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Found:
    """What a search found, and what comparisons of its first hits with the query found, by the ids of the images."""

    response: SearchResponse
    proofs: Mapping[int, Proof] = field(default_factory=dict)

    @property
    def same(self) -> dict[int, ProofAnswer]:
        """The hits that show the same as the query."""
        return {image_id: proof_answer(proof) for image_id, proof in self.proofs.items() if proof.same}

    @property
    def compared(self) -> int:
        """How many hits were compared with the query."""
        return len(self.proofs)


@blueprint.get("/", access=each("look"))
def search_page() -> ResponseReturnValue:
    """Show the search page; if its address says what to search for, with what is found."""
    form = read_fields(SearchForm, request.args.to_dict(flat=False))
    collections = seen_collections()
    collection = _select_collection(collections, form.collection)
    form = form.model_copy(update={"collection": collection.name if collection else None})
    if collection is None or not collection.images:
        return render_template("search.html", form=form, collections=collections, collection=collection, samples=[])
    if form.url:
        picture, found = _search_by_url(form, collection.name)
        return _render(form, collections, collection, found=found, picture=picture)
    if form.id is not None or form.like or form.unlike:
        query_image, found = _search_by_id(form, collection.name)
        return _render(form, collections, collection, query_image=query_image, found=found)
    if form.wanted or form.sort:
        return _render(form, collections, collection, listing=_listing(form, collection.name))
    return _render(form, collections, collection, samples=sample_images(collection, _SAMPLES))


@blueprint.post("/search", access=of_view("look"))
def search_by_file() -> ResponseReturnValue:
    """Show the search page with the images similar to an uploaded file, for browsers without scripts."""
    form, found = _search_by_file()
    collections = seen_collections()
    return _render(form, collections, _select_collection(collections, form.collection), found=found)


@blueprint.get("/results", access=of_view("look"))
def results_by_id() -> ResponseReturnValue:
    """Return the results part of the search page for an image of the collection, a picture's address, or examples."""
    form = read_fields(SearchForm, request.args.to_dict(flat=False))
    if form.collection is None or not (form.id or form.url or form.like or form.unlike):
        message = "collection, and id, url, like or unlike are needed"
        raise invalid([FieldError(field="query", message=message)])
    authorize(form.collection)
    if form.url:
        picture, found = _search_by_url(form, form.collection)
        return _render_results(form, found, None, picture)
    query_image, found = _search_by_id(form, form.collection)
    return _render_results(form, found, query_image)


@blueprint.post("/results", access=of_view("look"))
def results_by_file() -> ResponseReturnValue:
    """Return the results part of the search page for an uploaded file."""
    form, found = _search_by_file()
    return _render_results(form, found, None)


def _render_results(
    form: SearchForm, found: Found, query_image: Image | None, picture: QueryPicture | None = None
) -> str:
    return render_template(
        "_results.html",
        form=form,
        response=found.response,
        query_image=query_image,
        picture=picture,
        groups=hit_groups(found.response),
        same=found.same,
        compared=found.compared,
        facets=form.facets(),
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


def _search_by_id(form: SearchForm, collection: str) -> tuple[Image | None, Found]:
    """Search for an image of the collection, or for what the examples have in common; returns the image too."""
    clients, options = web_clients(), form.to_options()
    query_image = None if form.id is None else clients.query.image(collection, form.id)
    response = search(clients, collection, options, image_id=form.id or 0, box=form.box)
    if not form.proof or query_image is None:
        return query_image, Found(response)
    proofs = prove(clients, collection, response, options, image_id=query_image.id, box=form.box)
    return query_image, Found(response, proofs)


def _search_by_bytes(form: SearchForm, collection: str, image: bytes) -> Found:
    clients, options = web_clients(), form.to_options()
    response = search(clients, collection, options, image=image, box=form.box)
    if not form.proof:
        return Found(response)
    return Found(response, prove(clients, collection, response, options, image=image, box=form.box))


def _search_by_file() -> tuple[SearchForm, Found]:
    request.max_content_length = web_clients().settings.max_query_bytes + _FORM_MARGIN
    form = read_fields(SearchForm, request.form.to_dict(flat=False))
    if form.collection is None:
        raise invalid([FieldError(field="collection", message="choose a collection to search in")])
    authorize(form.collection)
    file = files_of(request.files, "image")[0]
    check_size(web_clients(), size_of(file))
    return form, _search_by_bytes(form, form.collection, file.stream.read())


def _search_by_url(form: SearchForm, collection: str) -> tuple[QueryPicture, Found]:
    if form.id is not None:
        raise invalid([FieldError(field="query.url", message="is given beside an id: one of the two is taken")])
    clients = web_clients()
    with fetched(clients, form.url) as image:
        found = _search_by_bytes(form, collection, image)
        info = clients.decoder.identify(image)
        shown = clients.decoder.thumbnail(image, box=_SHOWN)
    name = urlsplit(form.url).path.rpartition("/")[2][:120] or urlsplit(form.url).netloc
    return QueryPicture(shown, info.width, info.height, name), found


def _render(
    form: SearchForm,
    collections: Sequence[Collection],
    collection: Collection | None,
    *,
    query_image: Image | None = None,
    picture: QueryPicture | None = None,
    found: Found | None = None,
    samples: Sequence[Image] = (),
    listing: ListImagesResponse | None = None,
) -> str:
    facets = None
    if found is not None or listing is not None:
        facets = form.facets()
        present = facets.present
    else:
        present = _fields_of(collection)
    return render_template(
        "search.html",
        form=form,
        collections=collections,
        collection=collection,
        query_image=query_image,
        picture=picture,
        response=None if found is None else found.response,
        samples=samples,
        listing=listing,
        groups=[] if found is None else hit_groups(found.response),
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


def _fields_of(collection: Collection | None) -> list[str]:
    """Return the fields that the records of a collection have."""
    if collection is None:
        return []
    try:
        return sorted(web_clients().query.facets(collection.name, fields=[LABEL], limit=1).types)
    except Unavailable:  # a query service of an older version
        return []


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
