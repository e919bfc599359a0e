"""Decodes images in processes that can be ended, so that no image stops the service that it was sent to.

A pool has few processes, each started when it is first needed and replaced when it dies. An image that takes more
processor time, memory or time by the clock than it may is refused by name; its process is ended, and the pool goes on.
"""

import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import Unavailable
from shared.images.child_messages import Answer, Request, Want
from shared.images.contract import DEFAULT_LIMITS, MIB, ImageInfo, ImageRefused, Limits
from shared.images.decoding_process import CHILD, DecodingProcess, Died
from shared.images.regions import Rectangle
from shared.images.window_cutting import Size

_log = logging.getLogger(__name__)

_PROCESSES = 2
_SPARE = 64 * MIB  # of memory, for what is small
_STALLED_S = 1.0  # a crowd waits to be let in as long as images get done
_FREE_THREADS = 2  # of a server, for requests without an image
_PATIENCE_S = 20.0  # of who waits for a server's answer


class DecodersBusy(Unavailable):
    """Too many images wait to be decoded; trying again later helps."""


class DecoderDied(ImageRefused):
    """The process that decoded an image died, and that says little about the image: a fault in a C library, perhaps.

    It may also have been stopped or ended from outside, so the same image may be taken at another attempt.
    """

    def __init__(self, finding: str) -> None:
        message = f"the decoder stopped working on the image ({finding}): save it anew with another program"
        super().__init__("decoder-died", message)
        self.finding = finding

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.finding,)


class DecodeSettings(Protocol):
    """The settings of a pool, with the meanings that `shared.settings` gives."""

    @property
    def max_file_bytes(self) -> int: ...  # noqa: D102 -- the settings say it
    @property
    def max_pixels(self) -> int: ...  # noqa: D102
    @property
    def decode_seconds(self) -> float: ...  # noqa: D102
    @property
    def decode_memory(self) -> int: ...  # noqa: D102
    @property
    def max_pages(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class WorkLimits:
    """What decoding an image may take.

    Attributes:
        processor_s: Seconds of processor time.
        clock_s: Seconds by the clock: only what sleeps takes so long.
    """

    processor_s: float = 30.0
    clock_s: float = 300.0


@dataclass(frozen=True)
class Queue:
    """How images wait in front of the processes.

    Attributes:
        waiting: Most images that wait; None: any number.
        wait_s: Seconds that one waits at most; None: as long as it takes.
    """

    waiting: int | None = None
    wait_s: float | None = None


@dataclass
class _Seat:
    """A place for a process, empty until it is needed."""

    process: DecodingProcess | None = field(default=None)


class DecoderPool:
    """A `Decoder` whose images are decoded by other processes. Any number of threads may call it.

    Args:
        limits: What an image may be. A process may take twice its memory, since that is only estimated beforehand.
        work: What decoding an image may take.
        processes: Most processes.
        queue: How images wait for them.
        module: What the processes run.

    Every call raises `ImageRefused`, its `DecoderDied`, or `DecodersBusy`.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        work: WorkLimits | None = None,
        *,
        processes: int = _PROCESSES,
        queue: Queue | None = None,
        module: str = CHILD,
    ) -> None:
        self.limits, self._work, self._queue, self._module = limits, work or WorkLimits(), queue or Queue(), module
        self._lock = threading.Lock()
        self._free = [_Seat() for _ in range(processes)]
        self._waiting: deque[Future[_Seat]] = deque()
        self._closed = False
        self._turn = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the pool
        waiting = self._queue.waiting
        self._moved_at = 0.0  # when an image was let in or done
        self._places = None if waiting is None else threading.BoundedSemaphore(processes + waiting)

    @classmethod
    def from_settings(
        cls,
        settings: DecodeSettings,
        *,
        threads: int | None = None,
        processes: int = _PROCESSES,
        module: str = CHILD,
    ) -> Self:
        """Return a pool with the limits of the settings.

        `threads` are those of a server that the images come to: some of them are kept free of images. None: who waits
        for an image has nothing else to do. There are at most so many `processes`, and `module` is what they run.
        """
        limits = Limits(
            max_bytes=settings.max_file_bytes,
            max_pixels=settings.max_pixels,
            max_memory=settings.decode_memory,
            max_pages=settings.max_pages,
        )
        work = WorkLimits(settings.decode_seconds, clock_s=10 * settings.decode_seconds)
        if threads is None:
            return cls(limits, work, processes=processes, module=module)
        places = max(1, threads - _FREE_THREADS)
        processes = min(processes, places)
        return cls(limits, work, processes=processes, queue=Queue(places - processes, _PATIENCE_S), module=module)

    def identify(self, data: bytes | BinaryIO, *, page: int = 1) -> ImageInfo:
        """Return the format and size of an image, from its header alone."""
        return _known(self._ask("probe", 0, data, page)[0])

    def decode(
        self, data: bytes | BinaryIO, *, size: int, page: int = 1, part: Rectangle | None = None
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """Return the middle square of an image or a part of it, uint8 [size, size, 3], and what `identify` says."""
        answer, body = self._ask("pixels", size, data, page, part)
        return np.frombuffer(body, dtype=np.uint8).reshape(size, size, 3), _known(answer)

    def windows(
        self, data: bytes | BinaryIO, *, size: int, of: Size | None = None, page: int = 1
    ) -> tuple[NDArray[np.uint8], ImageInfo]:
        """Return the middle squares of the windows of an image, uint8 [n, size, size, 3]: see `Decoder.windows`."""
        answer, body = self._ask("windows", size, data, page, of=of)
        return np.frombuffer(body, dtype=np.uint8).reshape(-1, size, size, 3), _known(answer)

    def thumbnail(self, data: bytes | BinaryIO, *, box: int, page: int = 1) -> bytes:
        """Return a JPEG of the whole image, at most `box` pixels on either side."""
        return bytes(self._ask("thumbnail", box, data, page)[1])

    def tile(self, data: bytes | BinaryIO, *, part: Rectangle, shrink: int, page: int = 1) -> bytes:
        """Return a JPEG of a part of the image, at 1/`shrink` of its size."""
        side = -(-max(part[2] - part[0], part[3] - part[1]) // shrink)
        return bytes(self._ask("tile", side, data, page, part, shrink)[1])

    def grey(self, data: bytes | BinaryIO, *, side: int, page: int = 1) -> NDArray[np.uint8]:
        """Return the whole image in shades of grey, squeezed into a square: uint8 [side, side]."""
        return np.frombuffer(self._ask("grey", side, data, page)[1], dtype=np.uint8).reshape(side, side)

    def metadata(self, blocks: bytes) -> bytes:
        """Return what blocks of metadata say: see `Decoder.metadata`."""
        return bytes(self._ask("metadata", 0, blocks)[1])

    def features(self, data: bytes | BinaryIO, *, side: int, page: int = 1, part: Rectangle | None = None) -> bytes:
        """Return the local features of an image, packed: for a pool that runs `shared.proof.child`."""
        return bytes(self._ask("features", side, data, page, part)[1])

    def comparisons(self, features: bytes) -> bytes:
        """Return what comparisons of packed features find: for a pool that runs `shared.proof.child`."""
        return bytes(self._ask("comparisons", 0, features)[1])

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for images that wait or are decoded: for one that another service decodes.

        Raises:
            DecodersBusy: There is none, and no image gets done.
        """
        if self._places is None:
            yield
            return
        while not self._places.acquire(timeout=max(0.0, self._moved_at + _STALLED_S - monotonic())):
            if monotonic() - self._moved_at >= _STALLED_S:
                raise DecodersBusy("too many images wait to be decoded; try again in a while")
        self._moved_at = monotonic()
        try:
            yield
        finally:
            self._moved_at = monotonic()
            self._places.release()

    def warm_up(self) -> None:
        """Start a process now, so that the first image does not wait for it."""
        try:
            with self._seat() as seat:
                self._process(seat)
        except DecodersBusy as error:
            _log.warning("%s", error)

    def close(self) -> None:
        """End the processes; one that is at work ends when it is done."""
        with self._lock:
            self._closed = True
            idle, self._free = self._free, []
        for seat in idle:
            if seat.process is not None:
                seat.process.end()
        self._turn.close()

    def _ask(
        self,
        want: Want,
        side: int,
        data: bytes | BinaryIO,
        page: int = 1,
        part: Rectangle | None = None,
        shrink: int = 1,
        of: Size | None = None,
    ) -> tuple[Answer, bytearray]:
        size = len(data) if isinstance(data, bytes) else os.fstat(data.fileno()).st_size
        self.limits.check_bytes(size)
        by_file = not isinstance(data, bytes) and size > 0
        request = Request(
            want,
            side,
            size,
            self._work.processor_s,
            self.limits,
            by_file=by_file,
            page=page,
            part=part,
            shrink=shrink,
            of=of,
        )
        sent: bytes | int = b"" if not size else data if isinstance(data, bytes) else data.fileno()
        with self.place(), self._seat() as seat:
            process = self._process(seat)
            try:
                answer, body = process.ask(request, sent, clock_s=self._work.clock_s)
            except Died as death:
                seat.process = None
                _log.warning("a decoding process is gone at an image of %d bytes: %s", size, death)
                if death.by_processor_time:
                    raise self._too_complex() from None
                raise DecoderDied(str(death)) from death
        if answer.refused is not None:
            raise answer.refused
        return answer, body

    def _too_complex(self) -> ImageRefused:
        message = (
            f"decoding the image takes more than {self._work.processor_s:g} s of processor time: save it again as a "
            "baseline JPEG or scale it down, or raise ARTSEEK_DECODE_SECONDS"
        )
        return ImageRefused("too-complex", message)

    def _process(self, seat: _Seat) -> DecodingProcess:
        """Return the process of a seat, a new one where there is none that lives."""
        if seat.process is not None and not seat.process.alive:
            seat.process.end()
            seat.process = None
        if seat.process is None:
            try:
                seat.process = DecodingProcess(
                    memory=2 * self.limits.max_memory + _SPARE, turn=self._turn.fileno(), module=self._module
                )
            except (OSError, Died) as error:
                raise DecodersBusy(f"no decoding process can be started: {error}") from error
        return seat.process

    @contextmanager
    def _seat(self) -> Iterator[_Seat]:
        seat = self._take()
        try:
            yield seat
        except BaseException:
            if seat.process is not None:  # interrupted, perhaps in the middle of a message
                seat.process.end(at_once=True)
                seat.process = None
            raise
        finally:
            self._give_back(seat)

    def _take(self) -> _Seat:
        """Take a free seat, or wait for one in turn."""
        with self._lock:
            if self._closed:
                raise DecodersBusy("the service is stopping")
            if self._free:
                return self._free.pop()
            turn: Future[_Seat] = Future()
            self._waiting.append(turn)
        try:
            return turn.result(self._queue.wait_s)
        except FutureTimeoutError:
            with self._lock:
                if turn.done():
                    return turn.result()
                self._waiting.remove(turn)
            raise DecodersBusy("the decoders are busy with other images; try again in a while") from None

    def _give_back(self, seat: _Seat) -> None:
        """Hand the seat to who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set_result(seat)
                return
            if not self._closed:
                self._free.append(seat)
                return
        if seat.process is not None:
            seat.process.end()


def _known(answer: Answer) -> ImageInfo:
    assert answer.info is not None  # noqa: S101 -- Answer.read has seen to it
    return answer.info
