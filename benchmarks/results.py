"""All that a run of the index benchmark measured, as it is kept in a file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.end_to_end import EndToEndResult
from benchmarks.runner import IndexResult

END_TO_END = "Artseek, end to end"
"""What is shown for the whole of Artseek, beside indexes."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset.

    Attributes:
        count: Its vectors.
        dim: Components of a vector.
        contrast: How much farther two random vectors lie apart than a vector and its 10th neighbour.
        simulated: Whether the vectors are simulated.
        description: How they came about.
    """

    count: int
    dim: int
    contrast: float
    simulated: bool
    description: str = ""


@dataclass(frozen=True)
class Results:
    """All that a run measured.

    Attributes:
        machine: What the measurements depend on, by its name.
        target: The recall that indexes are to reach.
        datasets: The datasets by name.
        indexes: What was measured of each index on each dataset.
        end_to_end: What was measured of Artseek end to end on each dataset.
    """

    machine: dict[str, str]
    target: float
    datasets: dict[str, DatasetInfo] = field(default_factory=dict)
    indexes: list[IndexResult] = field(default_factory=list)
    end_to_end: list[EndToEndResult] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote."""
        value = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            value["machine"],
            value["target"],
            {name: DatasetInfo(**info) for name, info in value["datasets"].items()},
            [IndexResult.from_json(result) for result in value["indexes"]],
            [EndToEndResult.from_json(result) for result in value["end_to_end"]],
        )
