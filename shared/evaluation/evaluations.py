"""Evaluations in the object store: their reports, as JSON. `shared.evaluation.rows` has the rows."""

from dataclasses import replace
from operator import itemgetter

from shared.errors import NotFound, ObjectNotFound
from shared.evaluation.report import EvaluationReport
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore
from shared.versioned import StoredKind

_EVALUATION = StoredKind("evaluation")


class Evaluations:
    """Reads and writes evaluations. An evaluation is whole as soon as its JSON is there."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def ids(self, collection: str | None = None) -> list[tuple[str, str]]:
        """Return collection and id of all evaluations, or of those of a collection, the newest first."""
        whole = evaluation_layout.EVALUATIONS
        prefix = whole if collection is None else evaluation_layout.evaluations_prefix(collection)
        keys = (item.key.removeprefix(whole) for item in self._store.list(prefix))
        paths = [key.removesuffix(".json").partition("/") for key in keys if key.endswith(".json")]
        return sorted(((name, evaluation) for name, _, evaluation in paths), key=itemgetter(1), reverse=True)

    def find(self, evaluation: str) -> str:
        """Return the collection of an evaluation.

        Raises:
            NotFound: There is no such evaluation.
        """
        for name, other in self.ids():
            if other == evaluation:
                return name
        raise unknown_evaluation(evaluation)

    def get(self, collection: str, evaluation: str) -> EvaluationReport:
        """Return the report of an evaluation.

        Raises:
            NotFound: There is no such evaluation.
            Invalid: It cannot be read; `TooNew` where a newer version wrote it.
        """
        key = evaluation_layout.evaluation_key(collection, evaluation)
        try:
            data = self._store.get(key)
        except ObjectNotFound:
            raise NotFound(f"the collection {collection!r} has no evaluation {evaluation[:80]!r}") from None
        report = _EVALUATION.loads(data, EvaluationReport.from_json, place=key)
        # The collection may have been renamed since.
        return replace(report, collection=replace(report.collection, name=collection))

    def put(self, collection: str, report: EvaluationReport, rows: bytes) -> None:
        """Write an evaluation: its rows as Parquet, then its JSON, which makes it whole."""
        self._store.put(evaluation_layout.evaluation_rows_key(collection, report.id), rows)
        data = _EVALUATION.dumps(report.to_json())
        self._store.put(evaluation_layout.evaluation_key(collection, report.id), data, "application/json")

    def delete(self, collection: str, evaluation: str) -> None:
        """Remove an evaluation, or what was written of one that came to nothing."""
        self._store.delete([evaluation_layout.evaluation_rows_key(collection, evaluation)])
        # The report last: without it, nobody finds the rest.
        self._store.delete([evaluation_layout.evaluation_key(collection, evaluation)])


def unknown_evaluation(evaluation: str) -> NotFound:
    """Return the error of an evaluation that does not exist, or that one may not see."""
    return NotFound(f"there is no evaluation {evaluation[:80]!r}")
