"""Where a training of a test runs: a process forked from one that has loaded TensorFlow and this module.

Only such processes import it, which `tests.support.training_runs` starts: it knows a backbone that nothing else knows.
Run by itself it takes the arguments of `run` as JSON: a process that is to train with another library.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from shared.tensorflow_runtime import import_quietly
from tests.support import small_backbone
from training.runs import Run, StoredOutputs

for slow_to_import in ("training.similarity", "training.classes", "training.curves"):
    import_quietly(slow_to_import)
tensorflow = import_quietly("tensorflow")

small_backbone.register()  # before the command lists the names that it takes

command = import_quietly("training.command")

DEATHS: dict[str, tuple[type, str]] = {"first batch": (StoredOutputs, "append"), "first epoch": (Run, "save")}
"""When a training can be killed, and the method whose first call has then been made."""


def run(trainings: Sequence[Sequence[str]], output: str, *, eagerly: bool, killed_after: str | None) -> None:
    """Run trainings by their arguments, one after another, and end with the exit status of the last.

    Args:
        trainings: What would follow `artseek train`, of each training.
        output: Where standard output and standard error go: files of this path, ending in ``.out`` and ``.err``.
        eagerly: Whether to compute without graphs: to prepare them takes longer than a few steps.
        killed_after: A key of `DEATHS`, to have the process killed there.
    """
    for descriptor, ending in ((1, ".out"), (2, ".err")):
        file = os.open(f"{output}{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    tensorflow.config.run_functions_eagerly(eagerly)
    if killed_after is not None:
        _die_after(*DEATHS[killed_after])
    for arguments in trainings:
        command.train.main(arguments, prog_name="artseek train", standalone_mode=False)


def _die_after(kind: type, method: str) -> None:
    """Have this process killed right after the first call of a method."""
    original: Callable[..., Any] = getattr(kind, method)

    def last(*arguments: Any) -> None:
        original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(kind, method, last)


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
