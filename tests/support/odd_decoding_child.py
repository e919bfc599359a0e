"""A decoding process for tests: certain bytes make it do what a decoder must not."""

import os
import signal
import socket
import sys
from pathlib import Path

from shared.images.child_messages import Answer, Request
from shared.images.contract import File, ImageInfo, ImageRefused
from shared.images.decoding_child import answer, serve

HANG, CRASH, FILL, LIE, ESCAPE = b"hang", b"crash", b"fill", b"lie", b"escape"


def act(request: Request, data: File) -> tuple[Answer, bytes | memoryview]:
    """Do what the bytes ask for; an image is decoded."""
    if data == HANG:
        signal.pause()
    if data == CRASH:
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == FILL:
        bytearray(16 << 30)  # a MemoryError, since the address space is limited
    if data == LIE:
        return Answer(5, ImageInfo("jpeg", "image/jpeg", 1, 1)), b"12345"
    if data == ESCAPE:
        return Answer(refused=ImageRefused("corrupt", f"{_escape()}")), b""
    return answer(request, data)


def _escape() -> list[str]:
    """Return what the process can still reach."""
    reached = [name for name in os.environ if name.startswith("ARTSEEK")]
    for name, reach in (("file", Path("/proc/self/environ").read_bytes), ("network", socket.socket)):
        try:
            reach()
            reached.append(name)
        except OSError:
            pass
    return reached


if __name__ == "__main__":
    serve(sys.argv[1:], act)
