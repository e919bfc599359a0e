"""Runs one index in a process of its own: ``python -m benchmarks.subprocess_runner TASK``.

So none disturbs another, a library that crashes or takes too long ends alone, and what an index takes of memory can be
told. The vectors are mapped from their file.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.runner import Data, LeftOut, Measured, measure

_ROOT = Path(__file__).resolve().parent.parent
_THREAD_NAMES = ("OMP", "OPENBLAS", "MKL", "NUMBA")


def in_process(
    maker: str, arguments: dict[str, Any], *, data: Data, name: str, ours: bool, threads: int, limit_s: float
) -> Measured:
    """Measure an index in a process of its own.

    Args:
        maker: ``module:callable`` that makes the index from the arguments.
        arguments: Of JSON's types.
        data: What it is measured on.
        name: What it is called in the results.
        ours: Whether it is one of this project's families.
        threads: Cores that it may use to be built, and for many queries at once.
        limit_s: Seconds after which the process is ended and the index left out.
    """
    count, dim = data.vectors.shape
    head: dict[str, Any] = {"index": name, "vectors": data.name, "count": count, "dim": dim, "ours": ours}
    result = data.folder / "result.json"
    result.unlink(missing_ok=True)
    task_file = data.folder / "task.json"  # not an argument: it holds the address of a server, with its password
    task = {"maker": maker, "arguments": arguments, "data": data.name, "folder": str(data.folder), "threads": threads}
    environment = {**os.environ, **{f"{library}_NUM_THREADS": str(threads) for library in _THREAD_NAMES}}
    task_file.write_text(json.dumps(task | {"result": str(result)}), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.subprocess_runner", str(task_file)]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return Measured(**head, left_out=f"not done within {limit_s:.0f} s")
    if not result.exists():
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        return Measured(**head, left_out=last)
    return Measured.from_json({**head, "points": [], **json.loads(result.read_text(encoding="utf-8"))})


def main() -> None:
    """Measure the index of the task in the file given, and write the result to the file that the task names."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    module, _, maker = task["maker"].partition(":")
    result: dict[str, Any]
    try:
        index = getattr(import_module(module), maker)(**task["arguments"])
        result = measure(index, Data(task["data"], Path(task["folder"])), threads=task["threads"])
    except LeftOut as reason:
        result = {"left_out": str(reason)}
    Path(task["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
