"""How much of the embedding of images is done at a time, by the cores that there are.

An embedder's process has one batch at work, and two processes that decode its images; the model server computes each
call with a thread for each core. Two batches keep two cores busy: while the model has one, the other is read and
decoded. One core is busy with one batch, since half of it is with the model while the other half is decoded. More cores
compute a batch sooner than it is read and decoded, so they want more batches. `docs/benchmarks.md` has what was
measured.
"""

from dataclasses import dataclass
from typing import Final, Self

_LEAST_PROCESSES: Final = 2  # where there are as many cores
_MOST_PROCESSES: Final = 4  # by itself: each takes memory, so more are a choice of whoever has it
_CORES_OF_A_PROCESS: Final = 2
_LEAST_REQUESTS: Final = 8  # health checks do not wait behind batches
_REQUESTS_OF_A_CORE: Final = 4


@dataclass(frozen=True)
class Parallelism:
    """How much is done at a time.

    Attributes:
        embed_processes: Processes of the embedder.
        model_threads: Threads in which the model server computes an operation.
        model_calls: Operations, and so calls, that it computes at a time.
        model_requests: Requests that it takes at a time; of these, some wait.
    """

    embed_processes: int
    model_threads: int
    model_calls: int
    model_requests: int

    @classmethod
    def of_cores(cls, cores: int) -> Self:
        """Return what suits a number of cores, 1 or more."""
        return cls(
            embed_processes=min(cores, _MOST_PROCESSES, max(_LEAST_PROCESSES, cores // _CORES_OF_A_PROCESS)),
            model_threads=cores,
            model_calls=cores,
            model_requests=max(_LEAST_REQUESTS, _REQUESTS_OF_A_CORE * cores),
        )
