"""The queries of an evaluation: kept sets, embedded once, or a sample of the collection's own images."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.evaluator.class_field import ClassField
from shared.clients import Clients
from shared.errors import Invalid, NotFound, ObjectNotFound, Unavailable
from shared.evaluation.classes import Classes, class_text
from shared.evaluation.query_sets import LabelledQuery, QuerySet
from shared.images import Decoder, ImageRefused
from shared.rpc.query import Collection, Image, QueryClient
from shared.rpc.serving import ModelNotFound, ServingClient
from shared.state import Rejection
from shared.storage import evaluation_layout, layout

_THREADS = 8
_BATCH = 32  # images embedded at a time
_PAGE = 1000  # images listed at a time


@dataclass(frozen=True, eq=False)
class Queries:
    """Labelled queries of a collection.

    Attributes:
        digests: Of the images; likewise `names` and `labels`, the classes that each is to find.
        stored: Digests of what query sets have of them.
        field: The field whose values are the classes.
        ids: int64 [q], as the collection would have them.
        vectors: Embeddings by place, float32 [dim], of those that the collection does not hold.
        in_collection: Which the collection holds, bool [q].
        relevant: Images of the query's classes that there are to be found, int64 [q]: without the query itself.
        classes: Images of each class in the collection.
        rejected: What was sent as a query and is none.
        digest: What the set that they come from is named by.
    """

    digests: Sequence[str]
    stored: Sequence[str]
    names: Sequence[str]
    field: str
    labels: Sequence[Classes]
    ids: npt.NDArray[np.int64]
    vectors: Mapping[int, npt.NDArray[np.float32]]
    in_collection: npt.NDArray[np.bool_]
    relevant: npt.NDArray[np.int64]
    classes: Mapping[str, int]
    rejected: Sequence[Rejection]
    digest: str

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def fingerprint(self) -> str:
        """A digest of which queries are at which places, and of what each is to find."""
        places = zip(self.digests, self.labels, self.in_collection.tolist(), self.relevant.tolist(), strict=True)
        return layout.digest_of(json.dumps([*places]).encode())


class QuerySource:
    """Gets queries ready."""

    def __init__(self, clients: Clients, query: QueryClient, decoder: Decoder) -> None:
        self._clients, self._query, self._decoder = clients, query, decoder

    def of_set(
        self, queries: QuerySet, collection: Collection, classes: ClassField, *, step: Callable[[], None]
    ) -> Queries:
        """Return the queries of a set; `step` is called between batches.

        Raises:
            Invalid: None of them is an image.
            Unavailable: A server is away.
        """
        held = self._held(collection.name, queries.queries)
        vectors, rejected = self._embedded(
            [query for query in queries.queries if query.digest not in held], collection, step
        )
        kept = [query for query in queries.queries if query.digest in held or query.digest in vectors]
        if not kept:
            raise Invalid(f"none of the {len(queries.queries)} queries is an image: {rejected[0].reason}")
        own = [held.get(query.digest) for query in kept]
        return Queries(
            digests=[query.digest for query in kept],
            stored=[query.stored for query in kept],
            names=[query.name for query in kept],
            field=classes.name,
            labels=[(query.label,) for query in kept],
            ids=np.array([layout.image_id(query.digest) for query in kept], dtype=np.int64),
            vectors={place: vectors[query.digest] for place, query in enumerate(kept) if query.digest in vectors},
            in_collection=np.array([image is not None for image in own], dtype=np.bool_),
            relevant=np.array(
                [
                    collection.classes.get(query.label, 0) - (image is not None and query.label in classes.of(image))
                    for query, image in zip(kept, own, strict=True)
                ],
                dtype=np.int64,
            ),
            classes=dict(collection.classes),
            rejected=rejected,
            digest=queries.digest,
        )

    def sample(self, collection: Collection, classes: ClassField, size: int, *, seed: int) -> Queries:
        """Return labelled images of a collection, drawn at random: the same for the same collection and seed.

        They are drawn from classes of at least two images, since there is nothing to find for the only one of a class.

        Raises:
            Invalid: There is no such class.
        """
        sizes = {label: count for label, count in sorted(collection.classes.items()) if count > 1}
        total = sum(sizes.values())
        if not total:
            raise Invalid(
                f"the collection {collection.name!r} has no class of two images or more to sample: add images with "
                "--labels-from-folders, or evaluate it by a folder of labelled queries or by another field"
            )
        drawn = np.sort(np.random.default_rng([seed, 0]).choice(total, min(size, total), replace=False))
        images: dict[int, Image] = {}
        start = 0
        for label, count in sizes.items():
            of_class = drawn[(drawn >= start) & (drawn < start + count)] - start
            start += count
            for page in np.unique(of_class // _PAGE).tolist():
                listed = classes.images(collection.name, label, page=page)
                places = of_class[of_class // _PAGE == page] - page * _PAGE
                images.update((listed[place].id, listed[place]) for place in places.tolist() if place < len(listed))
        chosen = QuerySet.of(
            LabelledQuery(image.digest, image.name, class_text(classes.of(image)), image.size)
            for image in images.values()
        )
        by_digest = {image.digest: image for image in images.values()}
        kept = [by_digest[query.digest] for query in chosen.queries]
        return Queries(
            digests=[image.digest for image in kept],
            stored=[image.digest for image in kept],
            names=[image.name for image in kept],
            field=classes.name,
            labels=[classes.of(image) for image in kept],
            ids=np.array([image.id for image in kept], dtype=np.int64),
            vectors={},
            in_collection=np.ones(len(kept), dtype=np.bool_),
            relevant=np.array(
                [classes.relevant(collection.name, classes.of(image)) - 1 for image in kept], dtype=np.int64
            ),
            classes=dict(collection.classes),
            rejected=(),
            digest=chosen.digest,
        )

    def _held(self, collection: str, queries: Sequence[LabelledQuery]) -> dict[str, Image]:
        """Return those of the queries that the collection holds, by their digests."""

        def look(query: LabelledQuery) -> Image | None:
            try:
                image = self._query.image(collection, layout.image_id(query.digest))
            except NotFound:
                return None
            return image if image.digest == query.digest else None

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="look") as pool:
            return {
                query.digest: image
                for query, image in zip(queries, pool.map(look, queries), strict=True)
                if image is not None
            }

    def _embedded(
        self, queries: Sequence[LabelledQuery], collection: Collection, step: Callable[[], None]
    ) -> tuple[dict[str, npt.NDArray[np.float32]], list[Rejection]]:
        """Return embeddings by digest, made now or earlier, and which queries are refused."""
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        rejected: list[Rejection] = []
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="embeddings") as pool:
            earlier = list(pool.map(lambda query: self._earlier(query, collection), queries))
        missing = []
        for query, vector in zip(queries, earlier, strict=True):
            if vector is None:
                missing.append(query)
            else:
                vectors[query.digest] = vector
        if not missing:
            return vectors, rejected
        with self._clients.connect_model(collection.model, collection.model_version) as serving:
            for start in range(0, len(missing), _BATCH):
                step()
                embedded, refused = self._embed(missing[start : start + _BATCH], collection, serving)
                vectors |= embedded
                rejected += refused
        return vectors, rejected

    def _earlier(self, query: LabelledQuery, collection: Collection) -> npt.NDArray[np.float32] | None:
        key = evaluation_layout.embedding_key(collection.model, collection.model_version, query.digest)
        try:
            vector = np.frombuffer(self._clients.store.get(key), dtype="<f4")
        except ObjectNotFound:
            return None
        return vector if vector.shape == (collection.dim,) else None

    def _embed(
        self, queries: Sequence[LabelledQuery], collection: Collection, serving: ServingClient
    ) -> tuple[dict[str, npt.NDArray[np.float32]], list[Rejection]]:
        """Embed some queries and keep their embeddings."""
        try:
            size = serving.signature().input_size
            pixels, rejected = {}, []
            for query in queries:
                try:
                    pixels[query.digest], _ = self._decoder.decode(
                        self._clients.store.get(evaluation_layout.query_key(query.stored)), size=size
                    )
                except ImageRefused as refusal:
                    rejected.append(Rejection(query.name, refusal.reason, str(refusal)))
                except ObjectNotFound:
                    reason = "its original is no longer in the object store; send the queries again"
                    rejected.append(Rejection(query.name, "original-missing", reason))
            embeddings = serving.embed(np.stack(list(pixels.values()))) if pixels else np.empty((0, collection.dim))
        except ModelNotFound as error:  # a model server that is starting has no models yet
            raise Unavailable(str(error)) from error
        vectors = dict(zip(pixels, embeddings.astype("<f4", copy=False), strict=True))

        def keep(digest: str) -> None:
            key = evaluation_layout.embedding_key(collection.model, collection.model_version, digest)
            self._clients.store.put(key, vectors[digest].tobytes())

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="embeddings") as pool:
            list(pool.map(keep, vectors))
        return vectors, rejected
