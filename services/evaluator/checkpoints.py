"""The parts of an evaluation under way: what is done is kept, so that a later attempt goes on from there."""

import json
from typing import Any

import pyarrow as pa

from shared.errors import ObjectNotFound
from shared.evaluation.rows import from_parquet, parquet
from shared.storage import layout
from shared.storage.object_store import ObjectStore

_PLAN = "plan.json"


class Parts:
    """Tables and JSON values by name, of one evaluation."""

    def __init__(self, store: ObjectStore, evaluation: str) -> None:
        self._store = store
        self._prefix = layout.evaluating_prefix(evaluation)

    def begin(self, plan: dict[str, Any]) -> None:
        """Note what is judged; what was done of something else is forgotten."""
        if self.value(_PLAN) != json.loads(json.dumps(plan)):
            self.clear()
            self.put_value(_PLAN, plan)

    def value(self, name: str) -> Any:
        """Return a JSON value; None if it is not there."""
        try:
            return json.loads(self._store.get(self._prefix + name))
        except ObjectNotFound:
            return None

    def put_value(self, name: str, value: Any) -> None:
        """Write a JSON value."""
        self._store.put(self._prefix + name, json.dumps(value).encode(), "application/json")

    def table(self, name: str) -> pa.Table | None:
        """Return a table; None if it is not there."""
        try:
            return from_parquet(self._store.get(self._prefix + name))
        except ObjectNotFound:
            return None

    def put_table(self, name: str, table: pa.Table) -> None:
        """Write a table."""
        self._store.put(self._prefix + name, parquet(table))

    def clear(self) -> None:
        """Remove all parts."""
        self._store.delete([item.key for item in self._store.list(self._prefix)])
