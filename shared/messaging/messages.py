"""The messages on the task queues: images of a batch, and what a tuning or an evaluation is asked for."""

from dataclasses import asdict, dataclass
from typing import Literal, NotRequired, TypedDict

from shared.errors import Invalid
from shared.evaluation.index_setting import IndexSetting, IndexSettingJson
from shared.records.model import LABEL
from shared.state.outcomes import Rejection

MOST_REJECTED = 1000
"""Refused files that a request for an evaluation may name."""


@dataclass(frozen=True)
class BatchImage:
    """An image of a batch: its digest, the file name and label it came with, and when it was added if it was before.

    `page`: which page of a document it is; its original is a page file then, unless it is the first.
    """

    digest: str
    name: str
    label: str | None
    size: int
    added: float | None = None
    page: int = 1

    @property
    def title(self) -> str:
        """What people are told of it by."""
        return self.name if self.page == 1 else f"{self.name}, page {self.page}"

    def to_json(self) -> dict[str, str | int | float | None]:
        """Return it as it stands in a message: earlier versions know no pages."""
        value = asdict(self)
        if self.page == 1:
            del value["page"]
        return value


@dataclass(frozen=True, kw_only=True)
class TuningRequest:
    """What an index is to reach; None and empty: as the tuner has it by default.

    Attributes:
        recall: Share of the 10 nearest that the candidates are to hold.
        max_lookups: Buckets that a query may look into.
        max_candidates: Share of the collection that may be ranked, kept to even where the recall is then missed.
        families: Hash families that may be chosen.
        metric: Whose nearest are meant: "cosine" or "euclidean".
    """

    recall: float | None = None
    max_lookups: int | None = None
    max_candidates: float | None = None
    families: tuple[str, ...] = ()
    metric: Literal["cosine", "euclidean"] = "cosine"


class RejectedJson(TypedDict):
    """A file that is no query, as it stands on the queue."""

    name: str
    code: str
    reason: str


class EvaluationRequestJson(TypedDict):
    """What a collection is evaluated by, as it stands on the queue."""

    k: int
    query_set: str | None
    kept: str | None
    sample: int
    seed: int
    grid: list[IndexSettingJson]
    field: NotRequired[str]
    rejected: NotRequired[list[RejectedJson]]


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What a collection is evaluated by: a query set, by its digest, or a sample of its own labelled images.

    Attributes:
        k: Hits of a query that count.
        query_set: Digest of the set; None: a sample.
        kept: The name that the set is kept under, if it is asked for by its name.
        sample: Images of the sample, at most.
        seed: Of the sample, the intervals and the grid.
        grid: Settings of indexes to evaluate beside the one in use.
        field: The field whose values are the classes.
        rejected: Files that were to be queries and were refused before they were sent.
    """

    k: int = 10
    query_set: str | None = None
    kept: str | None = None
    sample: int = 0
    seed: int = 0
    grid: tuple[IndexSetting, ...] = ()
    field: str = LABEL
    rejected: tuple[Rejection, ...] = ()

    def to_json(self) -> EvaluationRequestJson:
        """Return the request as JSON values."""
        value: EvaluationRequestJson = {
            "k": self.k,
            "query_set": self.query_set,
            "kept": self.kept,
            "sample": self.sample,
            "seed": self.seed,
            "grid": [setting.to_json() for setting in self.grid],
        }
        if self.field != LABEL:  # which an evaluator of an older version takes for granted
            value["field"] = self.field
        if self.rejected:
            value["rejected"] = [
                {"name": rejection.name, "code": rejection.code, "reason": rejection.reason}
                for rejection in self.rejected
            ]
        return value

    @classmethod
    def from_json(cls, value: EvaluationRequestJson) -> "EvaluationRequest":
        """Return the request that `to_json` gave.

        Raises:
            Invalid: A newer version sent it, with what this one does not know.
        """
        if unknown := sorted(value.keys() - EvaluationRequestJson.__annotations__.keys()):
            raise Invalid(f"the evaluation is asked for with {unknown[0]!r}, which this version does not know")
        return cls(
            k=value["k"],
            query_set=value["query_set"],
            kept=value["kept"],
            sample=value["sample"],
            seed=value["seed"],
            grid=tuple(IndexSetting.from_json(setting) for setting in value["grid"]),
            field=value.get("field", LABEL),
            rejected=tuple(Rejection(**rejection) for rejection in value.get("rejected", ())),
        )
