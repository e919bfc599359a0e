"""A backbone for tests that do not depend on which one it is: it is built, trained and exported in a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import pytest

from training.backbones import BACKBONES, EFFICIENTNET_LITE0, Backbone

SMALL = replace(
    EFFICIENTNET_LITE0,
    name="small",
    last_stage="blocks_6_expand_conv",
    stages={"blocks_3_expand_conv": 16, "blocks_5_expand_conv": 32, "conv_head": 80},
    width=0.25,
    depth=0.25,
)
"""EfficientNet-Lite with a block a stage, a quarter as wide."""


_KNOWN = cast("dict[str, Backbone]", BACKBONES)


def register() -> None:
    """Let it be found by its name, in this process."""
    _KNOWN[SMALL.name] = SMALL


@contextmanager
def registered() -> Iterator[str]:
    """Let it be found by its name meanwhile, in this process; gives the name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_KNOWN, SMALL.name, SMALL)
        yield SMALL.name
