"""Training curves as a picture: loss, accuracy and P@k by epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen is asked for
from matplotlib import pyplot as plt

Panels = Sequence[tuple[str, Sequence[tuple[str, str]]]]
"""For each panel, the name of its quantity, and for each line the key in the history and the line's name."""

CLASSES: Panels = tuple(
    (name, ((name, "training"), (f"validation_{name}", "validation"))) for name in ("loss", "accuracy")
)


def draw_curves(history: Sequence[dict[str, Any]], best: int, title: str, path: Path, panels: Panels = CLASSES) -> None:
    """Write a PNG of a history, which has an item for each epoch, with a line at the epoch whose weights were taken."""
    epochs = range(1, len(history) + 1)
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), layout="constrained")
    for axis, (quantity, lines) in zip(axes, panels, strict=True):
        for key, name in lines:
            axis.plot(epochs, [epoch[key] for epoch in history], label=name)
        axis.axvline(best + 1, color="grey", linestyle=":", label=f"taken: epoch {best + 1}")
        axis.set_xlabel("epoch")
        axis.set_ylabel(quantity)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=120)
    plt.close(figure)
    part.replace(path)
