"""A backbone for tests that do not depend on which one it is: it is built, trained and exported in a second."""

from dataclasses import replace
from typing import cast

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


def register() -> None:
    """Let it be found by its name, in this process."""
    cast("dict[str, Backbone]", BACKBONES)[SMALL.name] = SMALL
