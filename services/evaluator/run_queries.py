"""Runs queries through the query service: the code that answers searches is the code that is evaluated."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.evaluator.class_field import ClassField
from services.evaluator.queries import Queries
from services.evaluator.run_results import Run, RunResults, slices
from shared.errors import Invalid, Unavailable
from shared.evaluation import retrieval_metrics
from shared.evaluation.classes import class_text
from shared.records.filters import RecordFilter, filter_to_json
from shared.rpc.query import MAX_LABELS, METRICS, MODES, STAGES, Collection, QueryClient, SearchRequest, SearchResponse
from shared.rpc.query import query_pb2 as messages

_BATCH = 64  # queries of one request: short enough that other searches come in between
_TIMED = 100  # queries that are also searched for one at a time, for the latency
_STAGES = tuple(stage for stage in STAGES if stage not in {"decode", "embed"})


def request_count(queries: int) -> int:
    """Return how many requests a run takes."""
    return len(list(slices(queries, _BATCH))) + min(queries, _TIMED)


def run_queries(
    client: QueryClient,
    run: Run,
    queries: Queries,
    collection: Collection,
    classes: ClassField,
    *,
    k: int,
    step: Callable[[], None],
) -> RunResults:
    """Return what the query service finds for all queries; `step` is called after each request.

    Raises:
        Unavailable: The service does not answer, or not from the index.
    """
    options = _options(run, collection, classes, k)
    parts = []
    for part in slices(len(queries), _BATCH):
        places = range(len(queries))[part]
        responses = client.search_batch(
            messages.SearchBatchRequest(options=options, queries=[_batch_query(queries, place) for place in places])
        ).answers
        parts.append(_read(run, responses, queries, places, k, collection, classes))
        step()
    results = RunResults.joined(parts)
    timed = np.unique(np.linspace(0, len(queries) - 1, min(len(queries), _TIMED)).astype(int)).tolist()
    for place in timed:
        response = client.search(_single_search(options, queries, place))
        for stage in _STAGES:
            results.stages[stage][place] = response.timings_ms.get(stage, np.nan)
        step()
    return results


def _options(run: Run, collection: Collection, classes: ClassField, k: int) -> SearchRequest:
    if not run.distractors and len(collection.classes) > MAX_LABELS:
        raise Invalid(
            f"the collection {collection.name!r} has {len(collection.classes)} classes, but a search takes at most "
            f"{MAX_LABELS}, so it cannot be evaluated without its unlabelled images"
        )
    classed = RecordFilter({classes.name: tuple(sorted(collection.classes))})
    return SearchRequest(
        collection=collection.name,
        k=k + 1,  # of which the query itself may be one
        mode=MODES["exact" if run.search == "exact" else "lsh"],
        metric=METRICS[run.metric],
        filter="" if run.distractors else filter_to_json(classed),
        fields=classes.shown,
        for_evaluation=True,
        regions=False,
    )


def _batch_query(queries: Queries, place: int) -> messages.BatchQuery:
    vector = queries.vectors.get(place)
    if vector is None:
        return messages.BatchQuery(id=int(queries.ids[place]))
    return messages.BatchQuery(vector=messages.Vector(values=vector.tolist()))


def _single_search(options: SearchRequest, queries: Queries, place: int) -> SearchRequest:
    query, search = _batch_query(queries, place), SearchRequest()
    search.CopyFrom(options)
    if query.WhichOneof("query") == "id":
        search.id = query.id
    else:
        search.vector.CopyFrom(query.vector)
    return search


def _read(
    run: Run,
    responses: Sequence[SearchResponse],
    queries: Queries,
    places: range,
    k: int,
    collection: Collection,
    classes: ClassField,
) -> RunResults:
    """Return the results of a batch, the queries themselves left out."""
    _check(run, responses, collection)
    ids = _padded([[hit.image.id for hit in response.hits] for response in responses], k + 1, -1, np.int64)
    texts = [[class_text(classes.of(hit.image)) for hit in response.hits] for response in responses]
    labels = _padded(texts, k + 1, "", object)
    distances = _padded([[hit.distance for hit in response.hits] for response in responses], k + 1, np.inf, np.float64)
    scores = _padded([[hit.score for hit in response.hits] for response in responses], k + 1, np.nan, np.float64)
    kept, itself = retrieval_metrics.others_first(ids, queries.ids[places.start : places.stop], k)
    kept_ids, kept_labels = np.take_along_axis(ids, kept, axis=1), np.take_along_axis(labels, kept, axis=1)
    counts = (kept_ids >= 0).sum(axis=1).tolist()
    searchable = collection.images if run.distractors else collection.labelled
    return RunResults(
        ids=kept_ids,
        labels=[row[:count].tolist() for row, count in zip(kept_labels, counts, strict=True)],
        distances=np.take_along_axis(distances, kept, axis=1),
        scores=np.take_along_axis(scores, kept, axis=1),
        candidates=np.array([response.candidates for response in responses], dtype=np.int64) - itself,
        seen=np.maximum(0, np.array([response.seen for response in responses], dtype=np.int64) - itself),
        searchable=searchable - itself.astype(np.int64),
        stages={stage: np.full(len(responses), np.nan) for stage in _STAGES},
    )


def _check(run: Run, responses: Sequence[SearchResponse], collection: Collection) -> None:
    """Raise `Unavailable` if a response is not what the run asked for."""
    mode = MODES["exact" if run.search == "exact" else "lsh"]
    for response in responses:
        if (response.model, response.model_version) != (collection.model, collection.model_version):
            raise Unavailable(f"the collection {collection.name!r} has just been given another model")
        if response.mode != mode:
            raise Unavailable("the query service searched by a scan, not by the index; it may be about to load it")


def _padded(rows: Sequence[Sequence[Any]], width: int, empty: Any, kind: Any) -> npt.NDArray[Any]:
    padded = np.full((len(rows), width), empty, dtype=kind)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded
