"""Runs one index in a process of its own: ``python -m benchmarks.subprocess_runner TASK``.

So no index disturbs another, a library that crashes or takes too long ends without the others, and the memory of an
index can be told. The vectors are mapped from their file.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.dataset import Dataset
from benchmarks.runner import IndexResult, Skipped, measure_index

_ROOT = Path(__file__).resolve().parent.parent
_THREAD_VARIABLES = tuple(f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"))


def measure_in_subprocess(
    maker: str, arguments: dict[str, Any], *, dataset: Dataset, name: str, ours: bool, threads: int, limit_s: float
) -> IndexResult:
    """Measure an index in a process of its own.

    Args:
        maker: ``module:callable`` that makes the index from the arguments.
        arguments: Of JSON's types.
        dataset: What it is measured on.
        name: The name of the index in the results.
        ours: Whether it is one of this project's hash families.
        threads: Cores that it may use to be built, and for many queries at once.
        limit_s: Seconds after which the process is ended and the index skipped.
    """
    count, dim = dataset.stored.shape
    head: dict[str, Any] = {"index": name, "dataset": dataset.name, "count": count, "dim": dim, "ours": ours}
    result = dataset.folder / "result.json"
    result.unlink(missing_ok=True)
    task_file = dataset.folder / "task.json"  # not an argument: it holds the address of a server, with its password
    task = {
        "maker": maker,
        "arguments": arguments,
        "dataset": dataset.name,
        "folder": str(dataset.folder),
        "threads": threads,
        "result": str(result),
    }
    task_file.write_text(json.dumps(task), encoding="utf-8")
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    command = [sys.executable, "-m", "benchmarks.subprocess_runner", str(task_file)]
    try:
        process = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return IndexResult(**head, skipped=f"not done within {limit_s:.0f} s")
    if not result.exists():
        last_line = (process.stderr.strip().splitlines() or [f"ended with status {process.returncode}"])[-1]
        return IndexResult(**head, skipped=last_line)
    return IndexResult.from_json({**head, "points": [], **json.loads(result.read_text(encoding="utf-8"))})


def main() -> None:
    """Measure the index of the task in the file given, and write the result to the file that the task names."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    module, _, maker = task["maker"].partition(":")
    result: dict[str, Any]
    try:
        index = getattr(import_module(module), maker)(**task["arguments"])
        result = measure_index(index, Dataset(task["dataset"], Path(task["folder"])), threads=task["threads"])
    except Skipped as reason:
        result = {"skipped": str(reason)}
    Path(task["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
