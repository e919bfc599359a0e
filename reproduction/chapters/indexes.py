"""Sections 5.x.2, 6.1.7 and 6.2.6: the LSH index at the report's settings, and Artseek's own index beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from reproduction.chapters.texts import about_network, model_title
from reproduction.networks import Network
from reproduction.published import Published, published
from reproduction.searches import Directions, IndexScores, K, Searches, Setting
from reproduction.sections import THEIRS, Plot, Section, Table, number
from reproduction.theory import meeting, width_for
from shared.tuning import RECALL_TARGET

RECALL = 0.9
"""The recall that slot widths are fitted to reach."""

_SEEDS = range(5)  # of the directions of an index; scores are means over them
_TUNED_SEED = 0

_REPORT_WIDTH = "the report's w"
_PROPORTIONAL_WIDTH = "w in proportion"
_FITTED_WIDTH = f"w for a recall of {RECALL}"
_MARKERS = {_REPORT_WIDTH: "o", _PROPORTIONAL_WIDTH: "s", _FITTED_WIDTH: "^"}

_Row = tuple[str, ...]
_Series = dict[str, tuple[list[tuple[float, float]], str]]
"""By name: points (share of the images, recall), and their marker in the plot."""

_GRID_COLUMNS = (
    "setting",
    "",
    "w",
    "P@10 Euclidean",
    "avg dist",
    "P@10 cosine",
    "avg sim",
    "#items",
    "share",
    "share, theory",
    "recall",
    "lowest, highest",
    "recall, theory",
)

_ABOUT_GRIDS = (
    (
        "g is the number of tables, h the number of hash functions of each. Of every setting: the report's row, where "
        "it has one; the report's w; w in the same proportion to the mean distance of the 10 nearest, which is the "
        "fair comparison, since networks differ in scale; and the narrowest w that by theory reaches a recall of "
        f"{RECALL}. Recall is that of the 10 nearest by Euclidean distance, against the exact scan; theory's is the "
        "mean over the queries' own neighbours (of the report's row: at its average distance). Figures made here are "
        "means over five draws of the directions; of the recall the lowest and the highest stand beside."
    ),
    (
        "Theory speaks of the mean over all draws. Where slots are wide, few boundaries decide, each of which parts "
        "many images at once, so that draws lie far apart and the mean of five need not meet it. The report drew once."
    ),
)


def index_section(
    section: str,
    network: Network,
    figures: Published,
    searches: Searches,
    folder: Path,
    *,
    with_uniform_directions: bool = False,
) -> Section:
    """Return section 5.1.2 or 5.2.2: the report's grid over g and h; its plot is written into the report's folder."""
    lsh = figures["lsh"][network.key]
    scan = figures["scan"][network.key]["with"]["euclidean"]
    title = f"Settings, k = {K}, w = {lsh['width']} in the report"
    grid, series = _grid(lsh["settings"], lsh["width"], scan["mean"], searches, title)
    tables = [grid, _tuned_table(searches, series)]
    if with_uniform_directions:
        tables.append(_uniform_table(lsh, searches))
    return Section(
        section,
        f"LSH index after features extraction, using {network.title}",
        (about_network(network), _why_it_lost(lsh, scan), *_ABOUT_GRIDS),
        tables,
        (_plot(section, series, folder),),
    )


def trained_index_section(
    section: str, network: Network, figures: Published, trained: Mapping[str, Searches], folder: Path
) -> Section:
    """Return section 6.1.7, the report's settings of each model, or 6.2.6, which the report left empty: its grid."""
    lsh = figures["lsh"][network.key]
    tables: list[Table] = []
    series: _Series = {}
    for name, searches in trained.items():
        model = figures["models"][name]
        settings = [model["lsh"]] if model["lsh"] else _without_figures(lsh["settings"])
        distance = model["scan"]["distance"] if model["scan"] else None
        grid, points = _grid(settings, lsh["width"], distance, searches, f"{model_title(name)}, k = {K}")
        for kind, (own_points, marker) in points.items():
            series.setdefault(kind, ([], marker))[0].extend(own_points)
        tables += [grid, _tuned_table(searches, series)]
    if any(figures["models"][name]["lsh"] for name in trained):
        text = f"The report gives the best setting of each model, with w = {lsh['width']}."
    else:
        text = (
            f"The report left this section empty: its grid of section 5.2.2, w = {lsh['width']}, is run on each model."
        )
    return Section(
        section,
        f"LSH index after fine tuning, using {network.title}",
        (about_network(network), text, *_ABOUT_GRIDS),
        tables,
        (_plot(section, series, folder),),
    )


def _why_it_lost(lsh: Published, scan: Published) -> str:
    """Return what theory says of how much of its scan's P@10 the report's index kept."""
    kept = mean(setting["p_euclidean"] for setting in lsh["settings"]) / scan["p_at_k"]
    predicted = [
        float(
            meeting(np.array([scan["mean"]]), width=lsh["width"], hashes=setting["hashes"], tables=setting["tables"])[0]
        )
        for setting in lsh["settings"]
    ]
    text = (
        f"For neighbours at the report's average distance, {scan['mean']}, and its w of {lsh['width']} theory predicts "
        f"a recall of {min(predicted):.3f} to {max(predicted):.3f} for its settings. It kept {kept:.0%} of the P@10 of "
        "its scan. "
    )
    if min(predicted) > 0.5:
        return text + (
            "So narrow slots cannot be why: by the formula on its page nearly all neighbours would have been "
            "candidates, and far more images than it tells of. What its index did instead it does not say; the table "
            "of directions tries one way to depart from the formula."
        )
    return text + (
        "So its slots are too narrow for its distances: most neighbours are never looked at, and what remains is "
        "the share of the class among whatever fell into the same buckets. Wider slots mend it, at the price of "
        "more items; the rows fitted to a recall show which."
    )


def _grid(
    settings: Sequence[Mapping[str, Any]], width: float, distance: float | None, searches: Searches, title: str
) -> tuple[Table, _Series]:
    """Return the table of a grid, and the points of its settings by the kind of their width.

    Args:
        settings: Tables and hash functions of each, with the report's figures if it has them.
        width: The report's.
        distance: The mean distance of the nearest images in the report; None if it gives none.
        searches: What is searched.
        title: Of the table.
    """
    near = float(searches.neighbours.mean()) or distance or 1.0  # 0 if the images are all alike to the network
    series: _Series = {kind: ([], marker) for kind, marker in _MARKERS.items()}
    rows: list[_Row] = []
    for setting in settings:
        tables, hashes = setting["tables"], setting["hashes"]
        if "items" in setting:
            rows.append(_published_row(setting, width, distance))
        widths = {_REPORT_WIDTH: width}
        if distance:
            widths[_PROPORTIONAL_WIDTH] = width / distance * near
        widths[_FITTED_WIDTH] = width_for(searches.neighbours, hashes=hashes, tables=tables, recall=RECALL)
        for kind, slot_width in widths.items():
            scores = searches.index(Setting(tables, hashes, slot_width), seeds=_SEEDS)
            rows.append(_row(kind, scores))
            series[kind][0].append((scores.euclidean.share, scores.euclidean.recall))
    rows_of_a_setting = len(rows) // max(1, len(settings))
    return Table(title, _GRID_COLUMNS, tuple(rows), groups=rows_of_a_setting), series


def _published_row(setting: Mapping[str, Any], width: float, distance: float | None) -> _Row:
    predicted = None
    if distance:
        probabilities = meeting(np.array([distance]), width=width, hashes=setting["hashes"], tables=setting["tables"])
        predicted = float(probabilities[0])
    return (
        _setting_label(setting["tables"], setting["hashes"]),
        THEIRS,
        number(width, 1),
        number(setting["p_euclidean"]),
        number(setting["distance"]),
        number(setting["p_cosine"]),
        number(setting["similarity"]),
        number(setting["items"], 0),
        number(setting["items"] / published()["images"], 4),
        "–",
        "–",
        "–",
        number(predicted),
    )


def _row(kind: str, scores: IndexScores) -> _Row:
    setting, euclidean, cosine = scores.setting, scores.euclidean, scores.cosine
    return (
        _setting_label(setting.tables, setting.hashes),
        kind,
        number(setting.width, 2),
        number(euclidean.p_at_k),
        number(euclidean.mean),
        number(cosine.p_at_k),
        number(cosine.mean),
        number(euclidean.items, 0),
        number(euclidean.share, 4),
        number(scores.predicted_share, 4),
        number(euclidean.recall),
        f"{number(min(scores.recalls))} to {number(max(scores.recalls))}",
        number(scores.predicted_recall),
    )


def _setting_label(tables: int, hashes: int) -> str:
    return f"g={tables}\N{NO-BREAK SPACE}h={hashes}"


def _tuned_table(searches: Searches, series: _Series) -> Table:
    """Return the scores of Artseek's own index, with the scan beside it, and add it to the points."""
    parameters, scores = searches.tuned(seed=_TUNED_SEED, recall=RECALL_TARGET)
    scan = searches.scan("cosine")
    series[f"Artseek's index, tuned for {RECALL_TARGET}"] = ([(scores.share, scores.recall)], "*")
    titles = {"cells": "cells", "hashes": "h", "width": "w"}
    values = ", ".join(f"{title}={parameters[name]}" for name, title in titles.items() if name in parameters)
    setting = f"{parameters['family']}: g={parameters['tables']} {values}, {parameters['probes']} probes"
    rows = [
        (
            label,
            number(search.p_at_k),
            number(search.ap_at_k),
            number(search.mean),
            number(search.items, 0),
            number(search.share, 4),
            number(search.recall),
        )
        for label, search in (("exact scan", scan), (setting, scores))
    ]
    columns = ("", "P@10 cosine", "AP@10", "avg sim", "#items", "share", "recall")
    return Table(f"Artseek's own index, tuned for a recall of {RECALL_TARGET}", columns, tuple(rows))


def _uniform_table(lsh: Published, searches: Searches) -> Table:
    """Return the scores of the report's best setting with directions of another distribution."""
    best = max(lsh["settings"], key=lambda setting: setting["p_euclidean"])
    directions: dict[str, Directions] = {"normal": "normal", "from 0 to 1": "uniform"}
    rows: list[_Row] = []
    for factor in (1, 4, 16, 64):
        setting = Setting(best["tables"], best["hashes"], lsh["width"] * factor)
        for label, distribution in directions.items():
            rows.append(_row(label, searches.index(setting, seeds=_SEEDS, directions=distribution)))
    return Table(
        "Directions drawn from the normal distribution, as theory asks, or evenly from 0 to 1: these have a part in "
        "common, along which all hash functions measure the same",
        ("setting", "directions", *_GRID_COLUMNS[2:]),
        tuple(rows),
        groups=2,
    )


def _without_figures(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return settings without what the report's index of another network scored with them."""
    return [{"tables": setting["tables"], "hashes": setting["hashes"]} for setting in settings]


def _plot(section: str, series: _Series, folder: Path) -> Plot:
    from reproduction.plots import draw_recall  # noqa: PLC0415 -- takes a second to import

    name = f"lsh-{section}.png"
    draw_recall({kind: points for kind, points in series.items() if points[0]}, folder / name)
    return Plot(name, "Recall of each setting against the share of the images that it examines")
