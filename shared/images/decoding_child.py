"""A decoding process: ``python -m shared.images.decoding_child MEMORY TURN LIFE``; its standard input is a socket.

It answers the requests of its pool one after another. Before the first it gives up what it does not need, so that an
image that takes the process over gains little: it opens no file and no connection, and has no secret.
What an image may take is bounded by the kernel: processor time for each request, memory for all of them.

MEMORY is in bytes, beside what the process has when it starts. TURN is a file that is locked while a large image is
decoded; the kernel unlocks it if the process dies. LIFE is a socket that the pool keeps open, and sends nothing to.
"""

import contextlib
import fcntl
import gc
import io
import math
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from shared.images import pdf
from shared.images.child_messages import MOST_METADATA, READY, Answer, Request, send
from shared.images.contract import File, ImageRefused
from shared.images.decoder import DirectDecoder
from shared.images.decoding import take_turns
from shared.records.metadata_blocks import SAMPLE

_SOCKET = 0
_LARGEST_FILE = 1 << 36  # bytes of address space for a mapped file, beside the memory
_HARDEST = resource.getrlimit(resource.RLIMIT_CPU)[1]

Work = Callable[[Request, File], tuple[Answer, bytes | memoryview]]


def answer(request: Request, data: File) -> tuple[Answer, bytes | memoryview]:
    """Do what is wanted of an image; returns the answer and its body."""
    decoder = DirectDecoder(request.limits)
    try:
        match request.want:
            case "probe":
                return Answer(info=decoder.identify(data, page=request.page)), b""
            case "pixels":
                pixels, info = decoder.decode(data, size=request.side, page=request.page, part=request.part)
            case "windows":
                pixels, info = decoder.windows(data, size=request.side, of=request.of, page=request.page)
            case "thumbnail" | "tile":
                if request.part is None:
                    file = decoder.thumbnail(data, box=request.side, page=request.page)
                else:
                    file = decoder.tile(data, part=request.part, shrink=request.shrink, page=request.page)
                return Answer(len(file)), file
            case "grey":
                shades = decoder.grey(data, side=request.side, page=request.page)
                return Answer(shades.nbytes), shades.tobytes()
            case "metadata":
                said = decoder.metadata(data)
                return (Answer(len(said)), said) if len(said) <= MOST_METADATA else (Answer(), b"")
            case "features" | "comparisons":
                msg = f"this process has no {request.want}: ask one that runs shared.proof.child"
                raise ValueError(msg)
    except ImageRefused as refused:
        return Answer(refused=refused), b""
    return Answer(pixels.nbytes, info), pixels.reshape(-1).data


_NO_MEMORY = "decoding the image takes too much memory: scale it down, or raise ARTSEEK_DECODE_MEMORY"


def serve(arguments: Sequence[str], work: Work = answer) -> None:
    """Answer requests until the pool closes the connection; the arguments are those of the command."""
    memory, turn, life = map(int, arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # the pool closes the connection, when the last image is done
        signal.signal(number, signal.SIG_IGN)
    take_turns(_Turn(turn))
    _warm_up()
    files = _Files(_limit_memory(memory))
    with socket.socket(fileno=_SOCKET) as connection:
        source = _Source(connection)
        dying_with_the_pool = _DyingWithThePool(life)
        connection.sendall(READY)
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                request = Request.read(source)
                _allow_processor_time(request.processor_s)
                with files.mapped(connection, request.size) if request.by_file else _in_memory(source, request) as data:
                    try:
                        with dying_with_the_pool:
                            head, body = work(request, data)
                    except MemoryError:
                        head, body = Answer(refused=ImageRefused("too-many-pixels", _NO_MEMORY)), b""
                del data
                send(connection, head.pack(), body)


class _Source:
    """Reads exact numbers of bytes from a socket, and none beyond: a file may come with the next."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size: int, /) -> bytes:
        data = self._connection.recv(size, socket.MSG_WAITALL)
        while len(data) < size:
            more = self._connection.recv(size - len(data), socket.MSG_WAITALL)
            if not more:
                raise EOFError
            data += more
        return data


class _Files:
    """Takes files that the pool sends, one at a time, into the two places for files that this process has.

    The places are taken while an image is decoded, so that it can open nothing.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        highest = max(int(place.name) for place in Path("/dev/fd").iterdir())
        while (place := os.dup(_SOCKET)) < highest:
            pass
        self._places = [place, os.dup(_SOCKET)]
        _limit(resource.RLIMIT_NOFILE, max(self._places) + 1)

    @contextlib.contextmanager
    def mapped(self, connection: socket.socket, size: int) -> Iterator[mmap.mmap]:
        """The bytes of the file that comes next, which are not in memory."""
        for place in self._places:
            os.close(place)
        _, (file, *_), _, _ = socket.recv_fds(connection, 1, 1)
        _allow_address_space(self._memory + size)
        data = mmap.mmap(file, size, access=mmap.ACCESS_READ)
        os.close(file)
        self._places = [os.dup(_SOCKET)]
        try:
            yield data
        finally:
            gc.collect()  # what still looks into it
            data.close()
            self._places.append(os.dup(_SOCKET))
            _allow_address_space(self._memory)


@contextlib.contextmanager
def _in_memory(source: _Source, request: Request) -> Iterator[bytes]:
    yield source.read(request.size)


class _Turn(contextlib.AbstractContextManager[None]):
    """The lock that the processes of a pool share."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)


def _warm_up() -> None:
    """Have everything loaded that decoding needs, since no file can be opened afterwards."""
    Image.preinit()
    decoder = DirectDecoder()
    for mode, format_name in (
        *(("RGB", name) for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")),
        ("CMYK", "JPEG"),
        ("LAB", "TIFF"),
        ("F", "TIFF"),
        ("I;16", "PNG"),
        ("RGBA", "PNG"),
    ):
        file = io.BytesIO()
        Image.new(mode, (16, 16)).save(file, format_name)
        for data in (file.getvalue(), file.getvalue()[: len(file.getvalue()) // 2]):
            with contextlib.suppress(ImageRefused):
                decoder.decode(data, size=8)
                decoder.thumbnail(data, box=8)
                decoder.grey(data, side=8)
    decoder.metadata(SAMPLE)
    with contextlib.suppress(ImageRefused):
        decoder.identify(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with contextlib.suppress(ImageRefused):
        decoder.identify(b"text")
    with contextlib.suppress(ImageRefused):
        decoder.decode(pdf.SAMPLE, size=8)


def _limit_memory(memory: int) -> int:
    """Bound the memory that this process takes; returns the address space that it may have without a file, in bytes."""
    most = resource.RLIM_INFINITY
    if sys.platform == "linux":
        pages, *_, data, _ = map(int, Path("/proc/self/statm").read_text().split())
        most = pages * resource.getpagesize() + memory
        _limit(resource.RLIMIT_DATA, data * resource.getpagesize() + memory)
        resource.setrlimit(resource.RLIMIT_AS, (most, most + _LARGEST_FILE))
    _limit(resource.RLIMIT_CORE, 0)
    return most


def _allow_address_space(most: int) -> None:
    if sys.platform == "linux":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (min(most, hard), hard))


def _limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, value))


def _allow_processor_time(seconds: float) -> None:
    """Have the kernel end this process (SIGXCPU) when it takes more processor time from now on, to whole seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), _HARDEST))


class _DyingWithThePool(contextlib.AbstractContextManager[None]):
    """Has the kernel end this process (SIGIO) when the pool closes its end of `life`, while the block is busy.

    The connection itself would not do: the kernel may tell of a request's last bytes after they were read. Nor would
    the signal of a parent's death: the kernel takes the thread that started a process for its parent.
    """

    def __init__(self, life: int) -> None:
        self._life = life
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        self._flags = fcntl.fcntl(life, fcntl.F_GETFL)

    def __enter__(self) -> None:
        fcntl.fcntl(self._life, fcntl.F_SETFL, self._flags | os.O_ASYNC)

    def __exit__(self, *_: object) -> None:
        fcntl.fcntl(self._life, fcntl.F_SETFL, self._flags)


if __name__ == "__main__":
    serve(sys.argv[1:])
