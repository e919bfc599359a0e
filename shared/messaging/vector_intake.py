"""Takes images with embeddings that were made elsewhere: segments are written and indexed, nothing is embedded.

An import may end in the middle, and be begun again: each image is there with its embedding and its labels, or it is not
there, and what an earlier import has written counts as a duplicate.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from shared.errors import Invalid, NotFound, Unavailable
from shared.messaging.lost_index import ensure_known
from shared.messaging.worker import WorkerClients
from shared.records.change_file import ImageChange
from shared.records.model import LABEL, Cell, Value
from shared.records.record_store import RecordStore
from shared.records.vector_files import EmbeddedImage, EmbeddingFile, Vectors
from shared.rpc.serving import ServingError
from shared.state.job_ids import new_job_id
from shared.state.outcomes import Outcome
from shared.storage import layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.original_files import OriginalFiles
from shared.storage.segments import Entry

_BATCH: Final = 500  # images of a segment
_THREADS: Final = 8


@dataclass(frozen=True)
class DeclaredModel:
    """The model that made embeddings: its name and version, and whether its embeddings have length 1."""

    name: str
    version: int
    normalised: bool = True


@dataclass(frozen=True)
class VectorImport:
    """What an import of embeddings came to.

    Attributes:
        job: The job that indexes them.
        images: Rows of the file.
        without_original: Images of which the store has no picture.
        served: Whether the model server has the model.
    """

    job: str
    images: int
    dim: int
    model: str
    model_version: int
    without_original: int
    served: bool


class VectorIntake:
    """Writes embeddings of a file into a collection, which is made if there is none of the name."""

    def __init__(self, clients: WorkerClients, *, vector_type: Literal["float32", "float16"] = "float32") -> None:
        self._clients, self._vector_type = clients, vector_type
        self._records = RecordStore(clients.store, clients.state.record_changes)

    def run(
        self,
        collection: str,
        file: EmbeddingFile,
        model: DeclaredModel,
        *,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> VectorImport:
        """Write all images of a file; the job tells when they are indexed.

        Raises:
            Invalid: The embeddings are not those of the model, or not of the collection's.
            Unavailable: A server does not answer.
        """
        served = self._check_model(file, model)
        images = [_identified(image, file.vectors[row]) for row, image in enumerate(file.images)]
        embedding_set = self._embedding_set(collection, file, model)
        lacking = self._without_original(images)
        # What a verification looks for is what the store had at some time.
        images = [replace(image, size=0) if image.digest in lacking else image for image in images]
        jobs, job = self._clients.state.jobs, new_job_id()
        jobs.create(job, collection)
        batches = 0
        try:
            for start in range(0, len(images), _BATCH):
                jobs.sent.renew_submitter(job)
                part = slice(start, start + _BATCH)
                batches = self._add(embedding_set, job, batches, images[part], file.vectors[part], total=len(images))
                on_progress(min(start + _BATCH, len(images)))
            jobs.extend(job, batches=batches, total=len(images), closed=True)
        finally:
            with suppress(Unavailable):
                jobs.sent.end_submitter(job)
        without = sum(image.digest in lacking for image in images)
        return VectorImport(job, len(images), file.dim, model.name, model.version, without, served)

    def _check_model(self, file: EmbeddingFile, model: DeclaredModel) -> bool:
        """Return whether the declared model is served; one that is has to make embeddings like those of the file."""
        named = (file.model, file.model_version)
        if file.model and named != (model.name, model.version):
            raise Invalid(
                f"the file says that {file.model} version {file.model_version} made its embeddings, not {model.name} "
                f"version {model.version}"
            )
        if model.normalised and not file.normalised:
            raise Invalid(
                "not all embeddings of the file have length 1, as those of most models do: if those of "
                f"{model.name} do not, say --raw"
            )
        try:
            with self._clients.connect_model(model.name, model.version) as serving:
                dim = serving.signature().dim
        except (ServingError, Unavailable):
            return False
        if dim != file.dim:
            raise Invalid(f"{model.name} version {model.version} makes {dim} numbers, the file has {file.dim} a row")
        return True

    def _embedding_set(self, collection: str, file: EmbeddingFile, model: DeclaredModel) -> EmbeddingSet:
        """Return the collection's embedding set, made if there is none."""
        catalog = self._clients.catalog
        ensure_known(collection, catalog=catalog, state=self._clients.state, queue=self._clients.queue)
        try:
            found = catalog.get(collection)
        except NotFound:
            found = catalog.create(collection, model=model.name, version=model.version, dim=file.dim)
        if (found.model, found.version, found.dim) != (model.name, model.version, file.dim):
            raise Invalid(
                f"the collection {collection!r} has embeddings of {found.model} version {found.version}, {found.dim} "
                f"numbers each, not of {model.name} version {model.version}, {file.dim} numbers each: import into "
                "another collection"
            )
        return found

    def _add(
        self,
        embedding_set: EmbeddingSet,
        job: str,
        batch: int,
        images: Sequence[EmbeddedImage],
        vectors: Vectors,
        *,
        total: int,
    ) -> int:
        """Write a segment of the images that the collection does not have; returns the number of batches now."""
        state, queue, set_name = self._clients.state, self._clients.queue, embedding_set.name
        segment = layout.batch_segment(job, batch)
        first = {layout.image_id(image.digest): row for row, image in reversed(list(enumerate(images)))}
        ids = list(first)
        holders = state.claims.claim(set_name, segment, ids)
        others = sorted({holder for holder in holders if holder != segment})
        left = [holder for holder in others if holder not in state.indexed_segments.among(set_name, others)]
        written = [holder for holder in left if self._clients.store.exists(layout.segment_key(set_name, holder))]
        unwritten = set(left) - set(written)
        taken = [image_id for image_id, holder in zip(ids, holders, strict=True) if holder in unwritten]
        state.claims.take_over(set_name, segment, taken)
        kept = [image_id for image_id, holder in zip(ids, holders, strict=True) if holder in {segment, *unwritten}]
        rows = sorted(first[image_id] for image_id in kept)
        state.jobs.extend(job, batches=batch + 1 + len(written), total=total, closed=False)
        outcome = Outcome({}, len(images) - len(rows))
        if rows:
            self._write(embedding_set, segment, [images[row] for row in rows], vectors[rows])
            added = dict(Counter(next(iter(images[row].labels), "") for row in rows))
            queue.index(
                set_name=set_name,
                segment=segment,
                job=job,
                batch=batch,
                outcome=Outcome(added, outcome.duplicates),
            )
        else:
            state.jobs.report(job, batch, outcome)
        # What a killed import has written, but not handed on.
        for number, other in enumerate(written, batch + 1):
            queue.index(set_name=set_name, segment=other, job=job, batch=number, outcome=Outcome())
        return batch + 1 + len(written)

    def _write(
        self, embedding_set: EmbeddingSet, segment: str, images: Sequence[EmbeddedImage], vectors: Vectors
    ) -> None:
        now = time.time()
        stamp = time.time_ns()
        self._records.add(
            [
                ImageChange(
                    layout.image_id(image.digest),
                    {LABEL: {"csv": Cell(stamp, tuple(Value(label) for label in image.labels))}},
                )
                for image in images
                if len(image.labels) > 1
            ],
            embedding_set.collection,
        )
        data = segments.pack(
            [_entry(image, now) for image in images],
            vectors.astype(self._vector_type),
            collection=embedding_set.name,
            model=embedding_set.model,
            version=embedding_set.version,
        )
        self._clients.store.put(layout.segment_key(embedding_set.name, segment), data)

    def _without_original(self, images: Sequence[EmbeddedImage]) -> set[str]:
        """Return the digests of the images whose pictures the store does not have."""
        originals, digests = OriginalFiles(self._clients.store), [image.digest for image in images]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="originals") as pool:
            there = pool.map(originals.exists, digests)
            return {digest for digest, is_there in zip(digests, there, strict=True) if not is_there}


def _identified(image: EmbeddedImage, vector: Vectors) -> EmbeddedImage:
    """Return an image with a digest: without one, it is named by its file name and its embedding."""
    if image.digest:
        return image
    named = hashlib.sha256(b"embedding\x00" + image.name.encode() + b"\x00" + vector.astype("<f4").tobytes())
    return EmbeddedImage(**{**vars(image), "digest": named.hexdigest()})


def _entry(image: EmbeddedImage, now: float) -> Entry:
    return Entry(
        id=layout.image_id(image.digest),
        digest=image.digest,
        name=image.name,
        label=next(iter(image.labels), None),
        size=image.size,
        media_type=image.media_type or "application/octet-stream",
        width=image.width,
        height=image.height,
        added=image.added or now,
        flags=image.flags,
        document=image.document,
    )
