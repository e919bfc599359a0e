"""The report's plots: images by class, and the recall of indexes against the images that they examine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen is asked for
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]


def draw_classes(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Write a PNG of bars: for each folder, the number of images of each class."""
    figure, axes = plt.subplots(1, len(counts), figsize=(5 * len(counts), 3.5), layout="constrained")
    for axis, (name, sizes) in zip(axes, counts.items(), strict=True):
        bars = axis.bar(range(len(sizes)), list(sizes.values()))
        axis.bar_label(bars)
        axis.set_xticks(range(len(sizes)), list(sizes), rotation=30, ha="right")
        axis.set_title(name)
        axis.margins(y=0.12)
    _save(figure, path)


def draw_recall(series: Mapping[str, tuple[Points, str]], path: Path) -> None:
    """Write a PNG of points (share of images examined, recall); a series has its points and their marker."""
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, (points, marker) in series.items():
        shares, recalls = zip(*points, strict=True) if points else ((), ())
        axis.plot(
            [max(share, 1e-5) for share in shares],
            recalls,
            marker,
            label=name,
            alpha=0.8,
            markersize=13 if marker == "*" else 6,
        )
    axis.set_xscale("log")
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("share of the images examined")
    axis.set_ylabel("recall of the 10 nearest")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=110)
    plt.close(figure)
    part.replace(path)
