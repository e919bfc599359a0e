"""The messages between a pool and its decoding processes, over a socket.

A message is the length of a head (4 bytes, big-endian), the head as JSON, and a body of bytes whose length the head
says. A request's body is an image file. An answer's body is what was asked for; a refused image's is empty.
"""

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from shared.images.contract import FLAGS, MEDIA_TYPES, REASONS, ImageInfo, ImageRefused, Limits
from shared.images.regions import Rectangle
from shared.windows import MOST_WINDOWS, windows

Want = Literal["probe", "pixels", "windows", "thumbnail", "tile", "grey", "metadata", "features", "comparisons"]

LENGTH = struct.Struct(">I")
READY = b"ready"
"""What a process sends once it can take requests."""

MOST_METADATA = 2**20
"""Most bytes of what metadata say."""

MOST_FEATURES = 2**17
"""Most bytes of the local features of a picture."""

MOST_FINDINGS = 2**18
"""Most bytes of what comparisons of pictures find."""

_LONGEST_HEAD = 64 * 1024
_LONGEST_SENTENCE = 4096


class Malformed(ValueError):
    """A message that is not one; after it, the other side must not be believed any more."""


class Source(Protocol):
    """What a message is read from."""

    def read(self, size: int, /) -> bytes | bytearray:
        """Return exactly so many bytes.

        Raises:
            EOFError: The other side has closed the connection.
        """


@dataclass(frozen=True)
class Request:
    """What is wanted of an image.

    Attributes:
        want: What: nothing but its facts, pixels for the model, those of its windows, a thumbnail, a tile, shades of
            grey, what its metadata say (then the blocks of metadata follow instead of the file), its local features, or
            what comparisons of such features find (then a list of them follows). The last two are for
            `shared.proof.child`.
        side: Pixels of the square, of the box of thumbnail or tile, or of the longer side; 0 for a probe, metadata or
            comparisons.
        size: Bytes of the file, which follow; or, of one `by_file`, a single byte follows with its descriptor.
        processor_s: Seconds of processor time that the image may take.
        limits: What the image may be.
        by_file: Whether the file comes as a descriptor.
        page: Which page of a document.
        part: Which part of the picture is wanted; None: all of it.
        shrink: How many times smaller than the part a tile of it is.
        of: Width and height of the original whose windows are wanted; None: those of the file's own picture.
    """

    want: Want
    side: int
    size: int
    processor_s: float
    limits: Limits
    by_file: bool = False
    page: int = 1
    part: Rectangle | None = None
    shrink: int = 1
    of: tuple[int, int] | None = None

    def pack(self) -> bytes:
        """Return the head of the message."""
        return _packed(vars(self) | {"limits": vars(self.limits)})

    @classmethod
    def read(cls, source: Source) -> Self:
        """Read the head of a message.

        Raises:
            EOFError: The other side has closed the connection.
        """
        fields = _head(source)
        places = {name: fields[name] and tuple(fields[name]) for name in ("part", "of")}
        return cls(**fields | {"limits": Limits(**fields["limits"]), **places})

    @property
    def greatest_answer(self) -> int:
        """The most bytes that an answer may have."""
        most: dict[Want, int] = {
            "probe": 0,
            "pixels": 3 * self.side**2,
            "windows": MOST_WINDOWS * 3 * self.side**2,
            "thumbnail": 4 * self.side**2 + 65_536,
            "tile": 4 * self.side**2 + 65_536,
            "grey": self.side**2,
            "metadata": MOST_METADATA,
            "features": MOST_FEATURES,
            "comparisons": MOST_FINDINGS,
        }
        return most[self.want]


@dataclass(frozen=True)
class Answer:
    """What became of a request: the facts of the image, where they were found, or why it is refused."""

    size: int = 0
    info: ImageInfo | None = None
    refused: ImageRefused | None = None

    def pack(self) -> bytes:
        """Return the head of the message."""
        refused = self.refused and [self.refused.reason, self.refused.message[:_LONGEST_SENTENCE]]
        return _packed({"size": self.size, "info": self.info and vars(self.info), "refused": refused})

    @classmethod
    def read(cls, source: Source, request: Request) -> Self:
        """Read the head of the answer to a request; what hostile bytes may have made of the process is not believed.

        Raises:
            EOFError: The process is gone.
            Malformed: It is no answer to the request.
        """
        try:
            fields = _head(source)
            answer = cls(int(fields["size"]), _info(fields["info"]), _refused(fields["refused"]))
        except (ValueError, TypeError, KeyError, struct.error) as error:
            raise Malformed(f"a decoding process answered with what is no answer: {error}") from error
        exact = request.want in {"pixels", "grey"} and answer.refused is None
        if not (request.greatest_answer if exact else 0) <= answer.size <= request.greatest_answer:
            raise Malformed(f"a decoding process answered with {answer.size} bytes where {request.want} were wanted")
        if request.want == "windows" and answer.size != _size_of_windows(request, answer):
            raise Malformed(f"a decoding process answered with {answer.size} bytes of windows, expected others")
        if answer.info is None and answer.refused is None and request.want in {"probe", "pixels"}:
            raise Malformed(
                f"a decoding process answered without the facts of the image where {request.want} were wanted"
            )
        return answer


def _size_of_windows(request: Request, answer: Answer) -> int:
    """Return how many bytes the windows have that were asked for; 0 if the image is refused."""
    if answer.info is None:
        return 0 if answer.refused else -1
    width, height = request.of or (answer.info.width, answer.info.height)
    return len(windows(width, height)) * 3 * request.side**2


def send_file(connection: socket.socket, head: bytes, file: int) -> None:
    """Send the head of a request, and an open file in place of its bytes."""
    connection.sendall(head)
    socket.send_fds(connection, [b"f"], [file])


def send(connection: socket.socket, head: bytes, body: bytes | memoryview) -> None:
    """Send a message in one piece, so that the other side wakes up once for a small one."""
    sent = connection.sendmsg([head, body])
    if sent < len(head):
        connection.sendall(head[sent:])
    if sent < len(head) + len(body):
        connection.sendall(memoryview(body)[max(0, sent - len(head)) :])


def _packed(fields: object) -> bytes:
    head = json.dumps(fields).encode()
    return LENGTH.pack(len(head)) + head


def _head(source: Source) -> dict[str, Any]:
    (length,) = LENGTH.unpack(source.read(LENGTH.size))
    if length > _LONGEST_HEAD:
        raise Malformed(f"the head of a message has {length} bytes, at most {_LONGEST_HEAD} are expected")
    fields = json.loads(source.read(length))
    if not isinstance(fields, dict):
        raise Malformed("the head of a message is no object")
    return fields


def _info(fields: object) -> ImageInfo | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise Malformed("the facts of an image are no object")
    info = ImageInfo(**fields | {"flags": tuple(fields.get("flags", ()))})
    sides = info.width, info.height
    if MEDIA_TYPES.get(info.format) != info.media_type or not all(type(side) is int and side > 0 for side in sides):
        raise Malformed(f"no image is {info}")
    if not FLAGS.issuperset(info.flags) or type(info.pages) is not int or info.pages < 1:
        raise Malformed(f"no image is {info}")
    return info


def _refused(fields: object) -> ImageRefused | None:
    if fields is None:
        return None
    match fields:
        case [str(reason), str(message)] if reason in REASONS and len(message) <= _LONGEST_SENTENCE:
            return ImageRefused(reason, message)
    raise Malformed("a refusal is no code and sentence")
