"""Asking the query service: the code that answers searches is the code that is judged."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from services.evaluator.queries import Queries
from services.evaluator.run_results import Answers, Run, slices
from shared.errors import Invalid, Unavailable
from shared.evaluation import retrieval_metrics
from shared.rpc.query import MAX_LABELS, METRICS, MODES, STAGES, Collection, QueryClient, SearchRequest, SearchResponse
from shared.rpc.query import query_pb2 as messages

_BATCH = 64  # queries of one request: short enough that other searches come in between
_TIMED = 100  # queries that are also asked one at a time, for the latency
_STAGES = tuple(stage for stage in STAGES if stage not in {"decode", "embed"})


def steps_of(queries: int) -> int:
    """Return how many requests a run takes."""
    return len(list(slices(queries, _BATCH))) + min(queries, _TIMED)


def ask(
    client: QueryClient, run: Run, queries: Queries, collection: Collection, *, k: int, step: Callable[[], None]
) -> Answers:
    """Return what the query service finds for all queries; `step` is called after each request.

    Raises:
        Unavailable: The service does not answer, or not from the index.
    """
    options = _options(run, collection, k)
    parts = []
    for some in slices(len(queries), _BATCH):
        places = range(len(queries))[some]
        answers = client.search_batch(
            messages.SearchBatchRequest(options=options, queries=[_query(queries, place) for place in places])
        ).answers
        parts.append(_read(run, answers, queries, places, k, collection))
        step()
    found = Answers.joined(parts)
    timed = np.unique(np.linspace(0, len(queries) - 1, min(len(queries), _TIMED)).astype(int)).tolist()
    for place in timed:
        answer = client.search(_alone(options, queries, place))
        for name in _STAGES:
            found.stages[name][place] = answer.timings_ms.get(name, np.nan)
        step()
    return found


def _options(run: Run, collection: Collection, k: int) -> SearchRequest:
    if not run.distractors and len(collection.classes) > MAX_LABELS:
        raise Invalid(
            f"the collection {collection.name!r} has {len(collection.classes)} classes, but a search takes at most "
            f"{MAX_LABELS}, so it cannot be judged without its unlabelled images"
        )
    return SearchRequest(
        collection=collection.name,
        k=k + 1,  # of which the query itself may be one
        mode=MODES["exact" if run.search == "exact" else "lsh"],
        metric=METRICS[run.metric],
        labels=() if run.distractors else sorted(collection.classes),
        trial=True,
    )


def _query(queries: Queries, place: int) -> messages.BatchQuery:
    vector = queries.vectors.get(place)
    if vector is None:
        return messages.BatchQuery(id=int(queries.ids[place]))
    return messages.BatchQuery(vector=messages.Vector(values=vector.tolist()))


def _alone(options: SearchRequest, queries: Queries, place: int) -> SearchRequest:
    query, made = _query(queries, place), SearchRequest()
    made.CopyFrom(options)
    if query.WhichOneof("query") == "id":
        made.id = query.id
    else:
        made.vector.CopyFrom(query.vector)
    return made


def _read(
    run: Run, answers: Sequence[SearchResponse], queries: Queries, places: range, k: int, collection: Collection
) -> Answers:
    searchable = collection.images if run.distractors else collection.labelled
    wanted = MODES["exact" if run.search == "exact" else "lsh"]
    for answer in answers:
        if (answer.model, answer.model_version) != (collection.model, collection.model_version):
            raise Unavailable(f"the collection {collection.name!r} has just been given another model")
        if answer.mode != wanted:
            raise Unavailable("the query service searched by a scan, not by the index; it may be about to load it")
    ids = _padded([[hit.image.id for hit in answer.hits] for answer in answers], k + 1, -1, np.int64)
    kept, itself = retrieval_metrics.others_first(ids, queries.ids[places.start : places.stop], k)

    def taken(values: Any) -> Any:
        return np.take_along_axis(values, kept, axis=1)

    labels = _padded([[hit.image.label for hit in answer.hits] for answer in answers], k + 1, "", object)
    distances = _padded([[hit.distance for hit in answer.hits] for answer in answers], k + 1, np.inf, np.float64)
    scores = _padded([[hit.score for hit in answer.hits] for answer in answers], k + 1, np.nan, np.float64)
    counts = (taken(ids) >= 0).sum(axis=1).tolist()
    return Answers(
        ids=taken(ids),
        labels=[its[:count].tolist() for its, count in zip(taken(labels), counts, strict=True)],
        distances=taken(distances),
        scores=taken(scores),
        candidates=np.array([answer.candidates for answer in answers], dtype=np.int64) - itself,
        seen=np.maximum(0, np.array([answer.seen for answer in answers], dtype=np.int64) - itself),
        searchable=searchable - itself.astype(np.int64),
        stages={name: np.full(len(answers), np.nan) for name in _STAGES},
    )


def _padded(values: Sequence[Sequence[Any]], width: int, empty: Any, kind: Any) -> Any:
    made = np.full((len(values), width), empty, dtype=kind)
    for row, its in zip(made, values, strict=True):
        row[: len(its)] = its
    return made
