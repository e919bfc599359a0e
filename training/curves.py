"""Training curves as a picture: loss and accuracy by epoch, on the training and the validation images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen is asked for
from matplotlib import pyplot as plt


def draw_curves(history: Sequence[dict[str, Any]], best: int, title: str, path: Path) -> None:
    """Write a PNG of a history, one item per epoch, with a line at the epoch whose weights were taken."""
    epochs = range(1, len(history) + 1)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, [one[name] for one in history], label="training")
        axis.plot(epochs, [one[f"validation_{name}"] for one in history], label="validation")
        axis.axvline(best + 1, color="grey", linestyle=":", label=f"taken: epoch {best + 1}")
        axis.set_xlabel("epoch")
        axis.set_ylabel(name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=120)
    plt.close(figure)
    part.replace(path)
