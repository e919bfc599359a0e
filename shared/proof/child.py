"""A decoding process that also finds local features and compares them: ``python -m shared.proof.child MEMORY TURN``.

It is `shared.images.decoding_child` with OpenCV, which the other decoding processes do without. A request to compare
has a packed list in place of an image: the features of the query, and of each picture that it is compared with.
"""

import sys
from typing import Final

import cv2
import numpy as np

from shared.images import decoding_child
from shared.images.child_messages import Answer, Request
from shared.images.contract import File, ImageRefused, Limits
from shared.images.decoding import shades
from shared.images.regions import Rectangle
from shared.proof.comparison import compare, mirror
from shared.proof.extraction import local_features
from shared.proof.features import LocalFeatures
from shared.proof.messages import packed_proofs, unpacked_list

_SAMPLE_SIDE: Final = 96


def local_features_of(
    data: File, *, longest: int, limits: Limits, page: int = 1, part: Rectangle | None = None
) -> LocalFeatures:
    """Return the local features of an image file, or of a part of it.

    Raises:
        ImageRefused: It cannot be decoded.
    """
    grey, width, height = shades(data, longest=longest, limits=limits, page=page, part=part)
    return local_features(grey, width=width, height=height)


def work(request: Request, data: File) -> tuple[Answer, bytes | memoryview]:
    """Do what is wanted; returns the answer and its body."""
    if request.want == "features":
        try:
            found = local_features_of(
                data, longest=request.side, limits=request.limits, page=request.page, part=request.part
            ).pack()
        except ImageRefused as refused:
            return Answer(refused=refused), b""
        return Answer(len(found)), found
    if request.want == "comparisons":
        query, *others = [LocalFeatures.unpack(part) for part in unpacked_list(bytes(data))]
        body = packed_proofs([compare(query, other) for other in others])
        return Answer(len(body)), body
    return decoding_child.answer(request, data)


def _warm_up() -> None:
    """Have everything loaded, since no file can be opened afterwards."""
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    chance = np.random.default_rng(0)
    grey = cv2.GaussianBlur(chance.integers(0, 255, (_SAMPLE_SIDE, _SAMPLE_SIDE), np.uint8), (0, 0), 1.5)
    features = local_features(grey, width=_SAMPLE_SIDE, height=_SAMPLE_SIDE)
    compare(features, features)
    compare(features, mirror(features))


if __name__ == "__main__":
    _warm_up()
    decoding_child.serve(sys.argv[1:], work)
