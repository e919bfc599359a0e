"""The finished parts of an evaluation under way: they are kept, so that a later attempt goes on from there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from services.evaluator.copies import CopiesFound
from services.evaluator.queries import Queries
from services.evaluator.run_results import RunResults
from shared.errors import ObjectNotFound
from shared.evaluation.report import SettingReport
from shared.evaluation.rows import from_parquet, parquet
from shared.rpc.query import Collection
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_STATE = "collection.json"
_PART = StoredKind("part of an evaluation")


@dataclass(frozen=True)
class CollectionState:
    """What must not change while the parts of an evaluation are made."""

    images: int
    labelled: int
    model: str
    model_version: int
    generation: int
    created: float

    @classmethod
    def of(cls, collection: Collection) -> "CollectionState":
        """Return the state of a collection."""
        return cls(
            images=collection.images,
            labelled=collection.labelled,
            model=collection.model,
            model_version=collection.model_version,
            generation=collection.generation,
            created=collection.created,
        )


class Checkpoints:
    """The finished parts of one evaluation, in the object store."""

    def __init__(self, store: ObjectStore, evaluation: str) -> None:
        self._store = store
        self._prefix = evaluation_layout.evaluating_prefix(evaluation)

    def begin(self, state: CollectionState, queries: Queries) -> None:
        """Note what is evaluated; parts that were made of another state, or with other queries, are removed.

        Parts go by the places of queries. A sample may be another one though as many images are there as before.
        """
        begun = {**asdict(state), "queries": queries.fingerprint}
        if self._json(_STATE) != begun:
            self.clear()
            self._put_json(_STATE, begun)

    def results(self, run_id: str) -> RunResults | None:
        """Return the results of a run; None if they are not there."""
        try:
            return RunResults.from_table(self._table(run_id))
        except ObjectNotFound:
            return None

    def put_results(self, run_id: str, results: RunResults) -> None:
        """Write the results of a run."""
        self._store.put(self._prefix + run_id, parquet(results.to_table()))

    def copies(self, part: slice) -> CopiesFound | None:
        """Return the copies of a part of the queries; None if they are not there."""
        value = self._json(f"copies{part.start}.json")
        return None if value is None else CopiesFound.from_json(value)

    def put_copies(self, part: slice, found: CopiesFound) -> None:
        """Write the copies of a part of the queries."""
        self._put_json(f"copies{part.start}.json", found.to_json())

    def setting(self, number: int) -> SettingReport | None:
        """Return what is known of a setting of the grid; None if it is not there."""
        value = self._json(f"grid{number}.json")
        return None if value is None else SettingReport.from_json(value)

    def put_setting(self, number: int, report: SettingReport) -> None:
        """Write what is known of a setting, after the results of its runs: it says that all of them are there."""
        self._put_json(f"grid{number}.json", report.to_json())

    def clear(self) -> None:
        """Remove all parts."""
        self._store.delete([item.key for item in self._store.list(self._prefix)])

    def _json(self, name: str) -> Any:
        key = self._prefix + name
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            return None
        return _PART.loads(data, lambda values: values, place=key)

    def _put_json(self, name: str, value: Mapping[str, Any]) -> None:
        self._store.put(self._prefix + name, _PART.dumps(value), "application/json")

    def _table(self, name: str) -> pa.Table:
        return from_parquet(self._store.get(self._prefix + name))
