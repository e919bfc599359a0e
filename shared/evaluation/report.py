"""What an evaluation found, as objects: the evaluator makes them; API, pages and command line read them.

`shared.evaluation.report_json` has their JSON, and `shared.evaluation.run_scores` the scores of a run.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.report_json import (
    CopyAnswer,
    EvaluationAnswer,
    JudgedByAnswer,
    JudgedCollectionAnswer,
    QuerySetAnswer,
    RejectedQueryAnswer,
    SettingAnswer,
)
from shared.evaluation.run_scores import EvaluatedIndex, RunScores
from shared.records.model import LABEL
from shared.state.outcomes import Rejection

QueryKind = Literal["folder", "kept", "sample"]
"""Where queries came from: a folder that was sent, a query set that was kept, or the collection itself."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedCollection:
    """The collection as it was evaluated.

    Attributes:
        name: Its name.
        images: How many images it had.
        labelled: How many of them had a label.
        classes: Images of each class.
        model: Name of the model that embedded it.
        model_version: Version of the model.
        dim: Numbers of an embedding.
        generation: The index generation in use; 0 if there was none.
    """

    name: str
    images: int
    labelled: int
    classes: Mapping[str, int]
    model: str
    model_version: int
    dim: int
    generation: int

    def to_json(self) -> JudgedCollectionAnswer:
        """Return the collection as JSON values."""
        return {
            "name": self.name,
            "images": self.images,
            "labelled": self.labelled,
            "classes": dict(self.classes),
            "model": self.model,
            "model_version": self.model_version,
            "dim": self.dim,
            "generation": self.generation,
        }


@dataclass(frozen=True, kw_only=True)
class QueryCopy:
    """A query and an image of the collection that is the same picture.

    Attributes:
        name: Name of the query.
        digest: SHA-256 of the query's bytes.
        label: Class of the query.
        image_id: Id of the image.
        image_label: Class of the image; empty for an unlabelled one.
        kind: "identical": byte for byte; "near": by the pixels.
        similarity: How alike the pixels are, at most 1.
        mirrored: Whether one is the mirror image of the other.
        distance: Cosine distance of the embeddings.
    """

    name: str
    digest: str
    label: str
    image_id: int
    image_label: str
    kind: Literal["identical", "near"]
    similarity: float
    mirrored: bool
    distance: float

    def to_json(self) -> CopyAnswer:
        """Return the copy as JSON values."""
        return {
            "name": self.name,
            "digest": self.digest,
            "label": self.label,
            "image": self.image_id,
            "image_label": self.image_label,
            "kind": self.kind,
            "similarity": self.similarity,
            "mirrored": self.mirrored,
            "distance": self.distance,
        }

    @classmethod
    def from_json(cls, value: CopyAnswer) -> "QueryCopy":
        """Return the copy that `to_json` gave."""
        return cls(
            name=value["name"],
            digest=value["digest"],
            label=value["label"],
            image_id=value["image"],
            image_label=value["image_label"],
            kind=value["kind"],
            similarity=value["similarity"],
            mirrored=value["mirrored"],
            distance=value["distance"],
        )


@dataclass(frozen=True, kw_only=True)
class QuerySetReport:
    """What a collection was evaluated by.

    Attributes:
        kind: Where the queries came from.
        name: What the query set is kept under; None if it was not asked for by a name.
        digest: What the set is named by: the same digest, the same images with the same labels.
        seed: Of the sample; None for other kinds.
        in_collection: Queries that the collection holds, byte for byte.
        without_relevant: Queries of a class of which the collection has no other image.
        rejected: Files that were sent as queries and are none.
        copies: Copies of queries in the collection; None in evaluations from before they were looked for.
        unchecked: Queries that could not be compared, since their originals are gone; None likewise.
    """

    kind: QueryKind
    name: str | None
    digest: str
    seed: int | None
    in_collection: int
    without_relevant: int
    rejected: tuple[Rejection, ...]
    copies: tuple[QueryCopy, ...] | None = None
    unchecked: int | None = None

    @property
    def copied(self) -> int | None:
        """How many queries the collection has a copy of; None if copies were not looked for."""
        return None if self.copies is None else len({copy.digest for copy in self.copies})

    def summary(self) -> JudgedByAnswer:
        """Return the query set as JSON values, without the copies."""
        return {
            "kind": self.kind,
            "name": self.name,
            "digest": self.digest,
            "seed": self.seed,
            "in_collection": self.in_collection,
            "without_relevant": self.without_relevant,
            "rejected": [_rejected_query(rejection) for rejection in self.rejected],
        }

    def to_json(self) -> QuerySetAnswer:
        """Return the query set as JSON values."""
        value: QuerySetAnswer = {
            "kind": self.kind,
            "name": self.name,
            "digest": self.digest,
            "seed": self.seed,
            "in_collection": self.in_collection,
            "without_relevant": self.without_relevant,
            "rejected": [_rejected_query(rejection) for rejection in self.rejected],
        }
        if self.copies is not None:
            value["copies"] = [copy.to_json() for copy in self.copies]
        if self.unchecked is not None:
            value["unchecked"] = self.unchecked
        return value

    @classmethod
    def from_json(cls, value: QuerySetAnswer) -> "QuerySetReport":
        """Return the query set that `to_json` gave."""
        return cls(
            kind=value["kind"],
            name=value["name"],
            digest=value["digest"],
            seed=value["seed"],
            in_collection=value["in_collection"],
            without_relevant=value["without_relevant"],
            rejected=tuple(Rejection(**rejection) for rejection in value["rejected"]),
            copies=tuple(QueryCopy.from_json(copy) for copy in value["copies"]) if "copies" in value else None,
            unchecked=value.get("unchecked"),
        )


def _rejected_query(rejection: Rejection) -> RejectedQueryAnswer:
    return {"name": rejection.name, "code": rejection.code, "reason": rejection.reason}


@dataclass(frozen=True, kw_only=True)
class PredictedScores:
    """What the tuner predicted of an index before it was built.

    Attributes:
        recall: Share of the 10 nearest that are found.
        candidate_share: Share of the collection that is ranked.
    """

    recall: float
    candidate_share: float


@dataclass(frozen=True, kw_only=True)
class SettingReport:
    """A setting of a grid, and how good the index was that was built by it.

    Attributes:
        setting: What was asked for.
        index: The index that was built.
        images: Images that were put into it.
        build_s: Seconds that building it took.
        buckets: How many buckets it had.
        predicted: What the tuner predicted of it; None if the tuner had no say.
        runs: The scores of its runs.
    """

    setting: IndexSetting
    index: EvaluatedIndex
    images: int
    build_s: float
    buckets: int
    predicted: PredictedScores | None
    runs: tuple[RunScores, ...] = ()

    def to_json(self) -> SettingAnswer:
        """Return the setting as JSON values."""
        predicted = self.predicted
        return {
            "setting": self.setting.to_json(),
            "index": self.index.to_json(),
            "images": self.images,
            "build_s": self.build_s,
            "buckets": self.buckets,
            "predicted": None
            if predicted is None
            else {"recall": predicted.recall, "candidate_share": predicted.candidate_share},
            "runs": [run.to_json() for run in self.runs],
        }

    @classmethod
    def from_json(cls, value: SettingAnswer) -> "SettingReport":
        """Return the setting that `to_json` gave."""
        predicted = value["predicted"]
        return cls(
            setting=IndexSetting.from_json(value["setting"]),
            index=EvaluatedIndex.from_json(value["index"]),
            images=value["images"],
            build_s=value["build_s"],
            buckets=value["buckets"],
            predicted=None
            if predicted is None
            else PredictedScores(recall=predicted["recall"], candidate_share=predicted["candidate_share"]),
            runs=tuple(RunScores.from_json(run) for run in value["runs"]),
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """An evaluation of a collection.

    Attributes:
        id: Id of the evaluation, and of the job that made it.
        created: When it was asked for, as RFC 3339.
        seconds: How long it took from then on.
        program: Version of the program that made it.
        k: Hits of a query that count.
        field: The field whose values are the classes.
        queries: How many queries there were.
        confidence: Of the intervals, such as 0.95.
        collection: What was evaluated.
        changed: Whether images came or went meanwhile.
        query_set: What it was evaluated by.
        runs: The scores of each way to search, the exact ones first.
        grid: The settings that were evaluated beside the index in use.
    """

    id: str
    created: str
    seconds: float
    program: str
    k: int
    queries: int
    confidence: float
    collection: EvaluatedCollection
    changed: bool
    query_set: QuerySetReport
    runs: tuple[RunScores, ...]
    grid: tuple[SettingReport, ...]
    field: str = LABEL

    def all_runs(self) -> Iterator[RunScores]:
        """Yield the runs, then those of the grid."""
        yield from self.runs
        for setting in self.grid:
            yield from setting.runs

    def run(self, run_id: str) -> RunScores | None:
        """Return the run with this id, of the grid too; None if there is none."""
        return next((run for run in self.all_runs() if run.id == run_id), None)

    def outline(self) -> "EvaluationReport":
        """Return the report without confusions, copies and runs of the grid, so that many take little memory."""
        return replace(
            self,
            runs=tuple(replace(run, confusion={}) for run in self.runs),
            grid=tuple(replace(setting, runs=()) for setting in self.grid),
            query_set=replace(self.query_set, copies=None, unchecked=None),
        )

    def with_rejected(self, rejected: Iterable[Rejection]) -> "EvaluationReport":
        """Return the report with more files that were sent as queries and are none."""
        query_set = replace(self.query_set, rejected=(*self.query_set.rejected, *rejected))
        return replace(self, query_set=query_set)

    def to_json(self) -> EvaluationAnswer:
        """Return the report as JSON values."""
        return {
            "id": self.id,
            "created": self.created,
            "seconds": self.seconds,
            "program": self.program,
            "k": self.k,
            "field": self.field,
            "queries": self.queries,
            "confidence": self.confidence,
            "collection": self.collection.to_json(),
            "changed": self.changed,
            "query_set": self.query_set.to_json(),
            "runs": [run.to_json() for run in self.runs],
            "grid": [setting.to_json() for setting in self.grid],
        }

    @classmethod
    def from_json(cls, value: EvaluationAnswer) -> "EvaluationReport":
        """Return the report that `to_json` gave."""
        return cls(
            id=value["id"],
            created=value["created"],
            seconds=value["seconds"],
            program=value["program"],
            k=value["k"],
            queries=value["queries"],
            confidence=value["confidence"],
            collection=EvaluatedCollection(**value["collection"]),
            changed=value["changed"],
            query_set=QuerySetReport.from_json(value["query_set"]),
            runs=tuple(RunScores.from_json(run) for run in value["runs"]),
            grid=tuple(SettingReport.from_json(setting) for setting in value["grid"]),
            field=value.get("field", LABEL),  # evaluations from before it could be chosen are by the label
        )
