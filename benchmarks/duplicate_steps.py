"""The steps of a search for duplicates in this process, each part of them kept, so that a later run goes on from there.

They are those of `services/evaluator/duplicate_search.py`, by the same functions: embeddings, neighbours by an exact
scan, local features, comparisons, and more of these among images that have a duplicate in common.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.servers import Servers
from benchmarks.system import MODELS, export_models
from services.evaluator.duplicate_pairs import Candidate
from services.evaluator.duplicate_search import LEAST_SCORE, MOST_IN_COMMON, NEIGHBOURS, ROUNDS
from shared.duplicates.grouping import missing_pairs
from shared.duplicates.pairs import Pair, ordered
from shared.duplicates.plain_pictures import compared_by_pixels
from shared.duplicates.report import DuplicateReport
from shared.duplicates.ways import ways_of
from shared.images import DEFAULT_LIMITS, decode
from shared.proof.child import local_features_of
from shared.proof.comparison import compare
from shared.proof.extraction import SIDE
from shared.proof.features import LocalFeatures
from shared.rpc.serving import ServingClient
from shared.rpc.tls import grpc_tls

Vectors = npt.NDArray[np.float32]

_PROCESSES: Final = 2
_EMBEDDED: Final = 1024  # images of a part
_BATCH: Final = 32
_LOOKED: Final = 32  # images of a task
_AT_ONCE: Final = 2048  # pairs whose features are made before they are compared
_COMPARED: Final = 256  # pairs of a part
_BLOCK: Final = 512  # images whose neighbours are found at a time
_HELD: Final = 512  # images whose features a process holds


class Paused(Exception):
    """The time is over; what is done so far is kept."""


class DuplicateSteps:
    """Searches files for duplicates.

    Attributes:
        seconds: Processor seconds that each step has taken, those of earlier runs included.
    """

    def __init__(self, files: Mapping[int, Path], folder: Path, *, until: float) -> None:
        """Search files by the ids of their images, and keep in a folder what is done, until `time.monotonic()`."""
        self._files, self._folder, self._until = dict(sorted(files.items())), folder, until
        self._spent = folder / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self._spent.read_text()) if self._spent.exists() else {}
        self.found: dict[tuple[int, int], Pair] = {}
        self.known: set[tuple[int, int]] = set()
        (folder / "features").mkdir(parents=True, exist_ok=True)

    def search(self) -> DuplicateReport:
        """Return what is found.

        Raises:
            Paused: The time is over; `report` has what was found so far.
        """
        vectors = self._embeddings()
        candidates = self._candidates(vectors)
        spawning = get_context("spawn")  # a fork would have the threads of gRPC and not what they hold
        with ProcessPoolExecutor(_PROCESSES, mp_context=spawning, initializer=_begin) as pool:
            for number in range(ROUNDS + 1):
                for place, some in enumerate(
                    _parts(candidates, _AT_ONCE)
                ):  # the most alike first, if the time is short
                    self._look(pool, some)
                    self._compare(pool, f"{number}-{place}", some)
                missing = missing_pairs(self.found.values(), self.known, most=MOST_IN_COMMON)
                candidates = [Candidate(*ids) for ids in missing]
                if not candidates:
                    break
        return self.report()

    def report(self) -> DuplicateReport:
        """Return what was found so far."""
        return DuplicateReport(
            id="",
            created="",
            seconds=round(sum(self.seconds.values()), 1),
            program="",
            images=len(self._files),
            compared=len(self.known),
            unreadable=0,
            pairs=tuple(sorted(self.found.values(), key=lambda pair: pair.ids)),
        )

    def _embeddings(self) -> Vectors:
        """Return the embeddings of the files, float32 [n, dim] of length 1, in the order of their ids."""
        paths = list(self._files.values())
        starts = range(0, len(paths), _EMBEDDED)
        kept = {start: self._folder / f"embeddings-{start}.npy" for start in starts}
        missing = [start for start in starts if not kept[start].exists()]
        if missing:
            export_models()
            with Servers(self._folder / "servers", models=MODELS) as servers:
                servers.start("model-server")
                server = psutil.Process(servers.pid("model-server"))
                for start in missing:
                    began = _times(server)
                    _save(kept[start], _embedded(servers, paths[start : start + _EMBEDDED]))
                    self._spend("embedding", _times(server) - began)
        vectors = np.concatenate([np.load(kept[start]) for start in starts])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def _candidates(self, vectors: Vectors) -> list[Candidate]:
        """Return the pairs of which one is among the nearest of the other, the most alike first."""
        began, ids, found = time.process_time(), list(self._files), dict[tuple[int, int], float]()
        for start in range(0, len(ids), _BLOCK):
            alike = vectors[start : start + _BLOCK] @ vectors.T
            alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -1
            nearest = np.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
            for row, columns in enumerate(nearest):
                for column in columns[alike[row, columns] >= LEAST_SCORE].tolist():
                    found[ordered(ids[start + row], ids[column])] = float(alike[row, column])
        self.seconds["neighbours"] = time.process_time() - began
        return [Candidate(*pair, score) for pair, score in sorted(found.items(), key=lambda item: (-item[1], item[0]))]

    def _look(self, pool: Executor, candidates: Sequence[Candidate]) -> None:
        """Find the local features of what is compared."""
        images = sorted({image for candidate in candidates for image in (candidate.a, candidate.b)})
        missing = [(self._files[image], target) for image in images if not (target := self._features(image)).exists()]
        self._each(pool, "local features", _look, list(_parts(missing, _LOOKED)))

    def _compare(self, pool: Executor, name: str, candidates: Sequence[Candidate]) -> None:
        """Compare candidates, and add what shows the same to `found`."""

        def add(part: Sequence[Candidate], pairs: Iterable[Any]) -> None:
            self.known.update((candidate.a, candidate.b) for candidate in part)
            self.found.update((pair.ids, pair) for pair in map(Pair.from_json, pairs))

        tasks: list[tuple[Path, Sequence[Candidate], Path]] = []
        for place, part in enumerate(_parts(candidates, _COMPARED)):
            kept = self._folder / f"pairs-{name}-{place}.json"
            if kept.exists():
                add(part, json.loads(kept.read_text()))
            else:
                tasks.append((self._folder / "features", part, kept))
        self._each(pool, "comparisons", _compare, tasks, lambda task: add(task[1], json.loads(task[2].read_text())))

    def _each(
        self,
        pool: Executor,
        step: str,
        work: Callable[[Any], float],
        tasks: Sequence[Any],
        done: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """Have tasks done by processes, a few at a time, until the time is over."""
        for some in _parts(tasks, 2 * _PROCESSES):
            if time.monotonic() > self._until:
                raise Paused(f"{step}: {len(tasks)} parts were left at the beginning of this run")
            for task, spent in zip(some, pool.map(work, some), strict=True):
                self._spend(step, spent)
                done(task)

    def _spend(self, step: str, seconds: float) -> None:
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds
        self._spent.write_text(json.dumps(self.seconds))
        if time.monotonic() > self._until:
            raise Paused(step)

    def _features(self, image: int) -> Path:
        return self._folder / "features" / str(image)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _save(target: Path, vectors: Vectors) -> None:
    part = target.with_suffix(".part.npy")
    np.save(part, vectors)
    part.replace(target)


def _times(server: psutil.Process) -> float:
    """Return the processor seconds of the model server and this process."""
    spent = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return float(sum(times.user + times.system for times in spent) + time.process_time())


def _embedded(servers: Servers, paths: Sequence[Path]) -> Vectors:
    settings = servers.settings
    with ServingClient(settings.serving_target, settings.model, timeout_s=300.0, tls=grpc_tls(settings)) as serving:
        size = serving.signature().input_size

        def embed(some: Sequence[Path]) -> Vectors:
            return serving.embed(np.stack([decode(path.read_bytes(), size=size)[0] for path in some]))

        with ThreadPoolExecutor(_PROCESSES) as pool:
            return np.concatenate(list(pool.map(embed, _parts(paths, _BATCH))))


# In the processes of the pool


def _begin() -> None:
    cv2.setNumThreads(1)


def _look(task: Sequence[tuple[Path, Path]]) -> float:
    """Find and keep the local features of some files; returns the processor seconds."""
    began = time.process_time()
    for path, target in task:
        features = local_features_of(path.read_bytes(), longest=SIDE, limits=DEFAULT_LIMITS)
        part = target.with_suffix(".part")
        part.write_bytes(features.pack())
        part.replace(target)
    return time.process_time() - began


def _compare(task: tuple[Path, Sequence[Candidate], Path]) -> float:
    """Compare pairs and keep those that show the same; returns the processor seconds."""
    began = time.process_time()
    folder, candidates, kept = task
    found = []
    for candidate in candidates:
        one, other = (_unpacked(folder / str(image)) for image in (candidate.a, candidate.b))
        proof = compare(one, other)
        shown = proof if proof.same else compared_by_pixels(one, other)
        if shown is not None:
            sizes = (one.width, one.height), (other.width, other.height)
            ways = ways_of(shown, *sizes, one.small, other.small)
            pair = Pair(candidate.a, candidate.b, shown.agreement, shown.inliers, round(candidate.score, 4), ways)
            found.append(pair.to_json())
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(kept)
    return time.process_time() - began


@lru_cache(maxsize=_HELD)
def _unpacked(path: Path) -> LocalFeatures:
    return LocalFeatures.unpack(path.read_bytes())
