"""Makes the map of a collection: fitted on some of its images, the rest placed; images that come later are placed too.

Every call may run twice or die anywhere: the map is one object, written whole at the end, while the lock on the
segments keeps purges away. What was fitted stays as it is until a map is asked for anew, or the collection has another
model.
"""

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.maintenance.exclusive_access import ExclusiveAccess
from services.maintenance.map_fitting import fit_projection, lay_out
from shared.clients import Clients
from shared.errors import Invalid, NotFound, TooNew, Unavailable
from shared.index.segment_reader import SegmentReader
from shared.maps.image_map import ImageMap
from shared.maps.maps import Maps
from shared.maps.placing import place
from shared.messaging.job_submission import submit
from shared.messaging.worker import WorkerClients
from shared.state.locks import segments_lock
from shared.state.outcomes import CANCELLED, Outcome, Rejection
from shared.storage import layout
from shared.storage.catalog import EmbeddingSet

MOST_FITTED: Final = 20_000
"""Images that a map is fitted on: t-SNE takes about a minute for them."""

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # ids are uniform; a fixed mix of them draws a sample


class _Cancelled(Exception):
    """Somebody asked the job to end."""


class Mapper:
    """Makes maps, each fitted on at most `most_fitted` images."""

    def __init__(self, clients: Clients, access: ExclusiveAccess, *, most_fitted: int = MOST_FITTED) -> None:
        self._catalog, self._state, self._access = clients.catalog, clients.state, access
        self._segments, self._maps = SegmentReader(clients.store), Maps(clients.store)
        self._most_fitted = most_fitted

    def map(self, *, collection: str, job: str, anew: bool = False) -> None:
        """Make the map of a collection, or bring it up to its images; with `anew`, fit it again.

        One that is cancelled leaves the map as it was.

        Raises:
            NotFound: There is no such collection.
            Invalid: It has no image.
            Unavailable: A server is away, another worker is at the segments, or the collection got another model.
        """
        if self._state.jobs.reported(job, 0):
            return
        try:
            made = self._made(collection, job, anew=anew)
        except _Cancelled:
            refused = Rejection(collection, CANCELLED, "it was cancelled; the map is as it was")
            self._state.jobs.report(job, 0, Outcome(rejected=(refused,)))
        else:
            self._state.jobs.report(job, 0, Outcome(affected=len(made.ids)))

    def _made(self, collection: str, job: str, *, anew: bool) -> ImageMap:
        """Make and store a map; raises `_Cancelled` if somebody asked the job to end."""
        self._check(job)
        active = self._catalog.get(collection)
        known = None if anew else self._known(active)
        if known is None or not known.fitted.any():
            known = self._fitted(active, job)
        with self._access.hold(active):
            made = self._with_all(active, known)
            self._check(job)
            if self._catalog.get(collection).name != active.name:
                raise Unavailable(f"the collection {collection!r} got another model meanwhile")
            self._state.locks.check(segments_lock(active.collection))
            self._maps.put(active.name, made)
        return made

    def _check(self, job: str) -> None:
        if self._state.jobs.cancelled(job):
            raise _Cancelled

    def _known(self, active: EmbeddingSet) -> ImageMap | None:
        try:
            return self._maps.get(active.name)
        except TooNew:
            raise
        except (NotFound, Invalid):  # a damaged one is made anew
            return None

    def _fitted(self, active: EmbeddingSet, job: str) -> ImageMap:
        """Return a map of a sample of the images: always the same as long as the images are."""
        with self._access.hold(active):
            ids, embeddings = self._sample(active)
        if not len(ids):
            raise Invalid(f"the collection {active.collection!r} has no image to make a map of: add some first")
        projection = fit_projection(embeddings)
        return ImageMap(
            model=active.model,
            version=active.version,
            created=time.time(),
            ids=ids,
            positions=lay_out(projection.apply(embeddings), lambda: self._check(job)),
            fitted=np.ones(len(ids), np.bool_),
            projection=projection,
        )

    def _sample(self, active: EmbeddingSet) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids and embeddings of at most `most_fitted` images, in the order of their ids."""
        ids, embeddings = np.empty(0, np.int64), np.empty((0, active.dim), np.float32)
        for _, more, rows in self._segments.live_rows(active):
            ids, embeddings = np.concatenate([ids, more]), np.concatenate([embeddings, rows])
            if len(ids) > self._most_fitted:
                drawn = np.argsort(ids.astype(np.uint64) * _MIX, kind="stable")[: self._most_fitted]
                ids, embeddings = ids[drawn], embeddings[drawn]
        order = np.argsort(ids)
        return ids[order], embeddings[order]

    def _with_all(self, active: EmbeddingSet, known: ImageMap) -> ImageMap:
        """Return a map with all images that there are now: those that it has where they were, the others placed."""
        parts = [(ids, known.projection.apply(rows)) for _, ids, rows in self._segments.live_rows(active)]
        if not parts:
            return known.of(np.empty(0, np.int64))
        ids, points = np.concatenate([ids for ids, _ in parts]), np.concatenate([some for _, some in parts])
        order = np.argsort(ids)
        ids, points = ids[order], points[order]
        left = known.of(ids)
        is_known = np.isin(ids, left.ids)
        positions, fitted = np.empty((len(ids), 2), np.float32), np.zeros(len(ids), np.bool_)
        positions[is_known], fitted[is_known] = left.positions, left.fitted
        if not is_known.all():
            # Those that were fitted, as long as there are any: errors of placing must not add up.
            base = fitted if fitted.any() else is_known
            if not base.any():
                raise Unavailable(f"all images of the map of {active.collection!r} were deleted meanwhile")
            new = ~is_known
            positions[new] = place(points[new], ids[new], points[base], positions[base])
        return ImageMap(
            model=known.model,
            version=known.version,
            created=known.created,
            ids=ids,
            positions=positions,
            fitted=fitted,
            projection=known.projection,
        )


class MapDuty:
    """Has images placed that came to a collection since its map was made."""

    name, every_s = "maps", 600.0

    def __init__(self, clients: WorkerClients) -> None:
        self._maps, self._catalog, self._state = Maps(clients.store), clients.catalog, clients.state
        self._queue = clients.queue

    def run(self) -> None:
        """Ask for the upkeep of each map whose collection has more or fewer images.

        Raises:
            Unavailable: A server is away.
        """
        for set_name in self._maps.set_names():
            collection = layout.collection_of(set_name)
            try:
                if self._catalog.get(collection).name != set_name:  # it is being filled, or was left
                    continue
                count = len(self._maps.get(set_name).ids)
            except (NotFound, Invalid):
                continue
            if self._state.claims.count(set_name) != count and self._state.claims.count(set_name):
                submit(
                    self._state.jobs,
                    "map",
                    collection,
                    lambda job, collection=collection: self._queue.map(job=job, collection=collection),  # type: ignore[misc]
                )
