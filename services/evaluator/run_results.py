"""The results of one run: what each query found, as arrays, and as a table that a later attempt reads back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.rpc.query import METRICS, Metric

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A way to search: `search` is "exact", "lsh", or "grid" and a number; `distractors` are unlabelled images."""

    search: str
    metric: Metric
    distractors: bool

    @property
    def id(self) -> str:
        """What the run is called in files."""
        return f"{self.search}-{self.metric}-{'all' if self.distractors else 'labelled'}"


def runs_of(search: str) -> list[Run]:
    """Return the runs of a search: by both metrics, with and without distractors."""
    return [Run(search, metric, distractors) for metric in METRICS for distractors in (True, False)]


@dataclass(frozen=True, eq=False)
class RunResults:
    """What q queries found, the queries themselves left out.

    Attributes:
        ids: int64 [q, k], the best first; -1 where there are fewer.
        labels: The classes of each hit as one text (`shared.evaluation.classes`), [q][k]; "" for none.
        distances: float64 [q, k]; infinite where there are fewer. Likewise `scores`, which are NaN there.
        candidates: Images that were ranked, int64 [q]; likewise `seen` in the buckets before filters.
        searchable: Images that each query could find, int64 [q].
        stages: Milliseconds by stage, float64 [q]; NaN for queries that were not timed alone.
    """

    ids: Ids
    labels: Sequence[Sequence[str]]
    distances: Floats
    scores: Floats
    candidates: Ids
    seen: Ids
    searchable: Ids
    stages: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.ids)

    def hits(self, values: npt.NDArray[Any]) -> Iterator[list[Any]]:
        """Yield the values of each query's hits, without those of empty places: [q, k]."""
        for row, count in zip(values, (self.ids >= 0).sum(axis=1).tolist(), strict=True):
            yield row[:count].tolist()

    def to_table(self) -> pa.Table:
        """Return the results as a table with a row per query, which `from_table` reads."""
        return pa.table(
            {
                "ids": pa.array(self.ids.tolist(), pa.list_(pa.int64())),
                "labels": pa.array([list(labels) for labels in self.labels], pa.list_(pa.string())),
                "distances": pa.array(self.distances.tolist(), pa.list_(pa.float64())),
                "scores": pa.array(self.scores.tolist(), pa.list_(pa.float64())),
                "candidates": self.candidates,
                "seen": self.seen,
                "searchable": self.searchable,
                **{f"stage {name}": values for name, values in self.stages.items()},
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """Return the results that `to_table` wrote."""

        def lists(name: str) -> npt.NDArray[Any]:
            column = table.column(name).combine_chunks()
            return np.asarray(column.values.to_numpy(zero_copy_only=False)).reshape(len(table), -1)

        names = [name for name in table.column_names if name.startswith("stage ")]
        return cls(
            ids=lists("ids"),
            labels=table.column("labels").to_pylist(),
            distances=lists("distances"),
            scores=lists("scores"),
            candidates=table.column("candidates").to_numpy(),
            seen=table.column("seen").to_numpy(),
            searchable=table.column("searchable").to_numpy(),
            stages={name.removeprefix("stage "): table.column(name).to_numpy() for name in names},
        )

    @classmethod
    def joined(cls, parts: Sequence["RunResults"]) -> "RunResults":
        """Return the results of several parts of the queries, one after the other."""
        return cls(
            ids=np.concatenate([part.ids for part in parts]),
            labels=[labels for part in parts for labels in part.labels],
            distances=np.concatenate([part.distances for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            candidates=np.concatenate([part.candidates for part in parts]),
            seen=np.concatenate([part.seen for part in parts]),
            searchable=np.concatenate([part.searchable for part in parts]),
            stages={name: np.concatenate([part.stages[name] for part in parts]) for name in parts[0].stages},
        )


def slices(size: int, most: int) -> Iterator[slice]:
    """Yield the parts of so many queries, at most `most` at a time."""
    for start, stop in pairwise([*range(0, size, most), size]):
        yield slice(start, stop)
