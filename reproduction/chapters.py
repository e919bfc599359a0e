"""The report's sections, made by running: each table beside the report's own figures, and what sets them apart."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from reproduction.collection import Images, leak
from reproduction.networks import Network
from reproduction.searching import Figures, Indexed, K, Searches, Setting
from reproduction.sections import THEIRS, Picture, Section, Table, number
from reproduction.theory import meeting, width_for
from shared.tuning import RECALL_TARGET

RECALL = 0.9
"""What slots are fitted to reach."""

_LEAKED = "painting", 161 / 228  # of the public set's queries, byte-identical to an image that is searched
_SEEDS = range(5)  # of the directions of an index; figures are means over them
_TUNED_SEED = 0
_SLOW = 1e-5  # a learning rate by which a few epochs change little
_NAMED = 20  # refused files that are listed

Published = dict[str, Any]
_Row = tuple[str, ...]
_Scans = Mapping[str, tuple[Figures, Figures, int]]
"""By name what a scan comes to by Euclidean distance and by cosine, and how many images it goes through."""


def published() -> Published:
    """Return the report's own figures."""
    found: Published = json.loads((resources.files("reproduction") / "published.json").read_text("utf-8"))
    return found


# 2: the images


def cleaning(images: Images, theirs: Published, folder: Path) -> Section:
    """Return section 2.1."""
    from reproduction.pictures import draw_classes  # noqa: PLC0415 -- takes a second to import

    draw_classes({"training": images.gallery.sizes, "validation": images.queries.sizes}, folder / "classes.png")
    rows: list[_Row] = []
    for name in images.gallery.classes:
        told = theirs["validation"].get(name)
        rows.append(
            (
                name,
                f"{images.gallery.sizes[name]:,}",
                f"{images.queries.sizes[name]:,}",
                number(told, 0),
                f"{images.leaked[name]:,}",
            )
        )
    total = (
        len(images.gallery),
        len(images.queries),
        sum(theirs["validation"].values()),
        sum(images.leaked.values()),
    )
    rows.append(("all", *(f"{one:,}" for one in total)))
    classes = Table(
        "Images of each class after cleaning",
        ("class", "training", "validation", f"validation, {THEIRS}", "left out: also in validation"),
        tuple(rows),
    )
    refused = [(one.path.name, one.path.parent.name, one.reason) for one in images.refused[:_NAMED]]
    if len(images.refused) > _NAMED:
        refused.append((f"and {len(images.refused) - _NAMED:,} more", "", ""))
    return Section(
        "2.1",
        "Data cleaning",
        (
            (
                f"{len(images.refused):,} files cannot be decoded and are left out, and so are {images.copies:,} that "
                f"are byte-identical to another of their class. {len(images.distractors):,} images without a class are "
                "searched beside the training images, and never relevant: together "
                f"{len(images.gallery) + len(images.distractors):,}, the report's {theirs['images']:,}."
            ),
            (
                "The report shows the classes of its training images as a picture without numbers, so they are not "
                "repeated here; those of its validation images stand in its classification reports. It removed files "
                "that could not be opened, and looked for no copies. An image that is both searched and searched for "
                "finds itself: here such are left out of the search."
            ),
        ),
        (
            classes,
            *([Table("Files that are no images", ("file", "in", "why"), tuple(refused))] if refused else []),
        ),
        (Picture("classes.png", "Images of each class, for training and validation"),),
    )


# 5.x.1, the sequential scan


def scanning(
    section: str, network: Network, theirs: Published, right: Searches, as_fed: Searches, images: Images
) -> Section:
    """Return section 5.1.1 or 5.2.1: what `right` embeddings find, and the variants that set the report apart."""
    own = theirs["scan"][network.key]
    told, both = network.told, bool(len(images.distractors))
    leaking = _leaking(right, images)
    variants = {
        told: right,
        f"{told}, pixels as the report fed them": as_fed,
        **({f"{told}, with the leak": leaking[0]} if leaking else {}),
    }
    tables = []
    for name, key in (("without distractors", "without"), ("with distractors", "with")):
        if key == "with" and not both:
            continue
        found = {
            title: searches if key == "with" else searches.without_distractors() for title, searches in variants.items()
        }
        figures = {
            title: (searches.scan("euclidean"), searches.scan("cosine"), len(searches))
            for title, searches in found.items()
        }
        tables += [
            _scan_table(f"Sequential scan {name}, k = {K}", network, own[key], figures, theirs["images"]),
            _class_table(f"P@{K} of each class, {name}", network, own[key], figures, images),
        ]
    return Section(
        section,
        f"Sequential search after features extraction, using {network.title}",
        (
            _of(network),
            (
                "What the report calls mAP is the share of the query's class among the first 10, here P@10. Its "
                "tables with and without distractors both say 32,791 items, so what it searched without is unknown."
            ),
            (
                "The report divided pixels by 255 and gave the network nothing else of its preprocessing: "
                f"{network.fed}. That variant is the second row of figures made here."
            ),
            *([leaking[1]] if leaking else []),
        ),
        tables,
    )


def _leaking(searches: Searches, images: Images) -> tuple[Searches, str] | None:
    """Return the same searches with the public set's leak, and what that is."""
    label, share = _LEAKED
    if label not in images.queries.classes:
        return None
    places = leak(images, label, share)
    text = (
        f"In the public data set 161 of the 228 {label} queries are byte-identical to an image that is searched. "
        f"The row with the leak has copies of as large a share of them, {len(places)}, among the images: each then "
        "finds itself first. A copy can raise the P@10 of its query by a tenth at most; copies that were resized or "
        "cut, of which the public set has more, do the same and cannot be told by their bytes."
    )
    return searches.leaking(places), text


def _of(network: Network) -> str:
    if not network.stands_in:
        return f"The network is the report's own, {network.title}, with the weights {network.weights!r}."
    return (
        f"{network.backbone} with ImageNet weights stands in for {network.title}, whose weights no package "
        f"has; --{network.key} imagenet, or a file, runs the report's own. Distances of one network say nothing of "
        "those of another."
    )


def _scan_table(title: str, network: Network, own: Published, figures: _Scans, items: int) -> Table:
    rows: list[_Row] = [
        (
            f"{network.title}, {THEIRS}",
            *(number(own[metric][name]) for metric in ("euclidean", "cosine") for name in ("p_at_k", "mean")),
            "–",
            "–",
            number(items, 0),
        )
    ]
    rows += [
        (
            name,
            number(euclidean.p_at_k),
            number(euclidean.mean),
            number(cosine.p_at_k),
            number(cosine.mean),
            number(euclidean.ap_at_k),
            number(cosine.ap_at_k),
            number(count, 0),
        )
        for name, (euclidean, cosine, count) in figures.items()
    ]
    columns = ("", "P@10 Euclidean", "avg dist", "P@10 cosine", "avg sim", "AP@10 Euclidean", "AP@10 cosine", "#items")
    return Table(title, columns, tuple(rows))


def _class_table(title: str, network: Network, own: Published, figures: _Scans, images: Images) -> Table:
    classes = images.queries.classes
    rows: list[_Row] = []
    for metric in ("euclidean", "cosine"):
        said = own[metric]["per_class"]
        found = {name: one[0] if metric == "euclidean" else one[1] for name, one in figures.items()}
        rows.append((f"{network.title}, {THEIRS}", metric, *(number(said.get(name)) for name in classes)))
        rows += [(name, metric, *(number(one.per_class[label]) for label in classes)) for name, one in found.items()]
    return Table(title, ("", "metric", *classes), tuple(rows), groups=len(figures) + 1)


# The LSH grids


def indexing(
    section: str,
    title: str,
    network: Network,
    theirs: Published,
    searches: Searches,
    folder: Path,
    *,
    uniform: bool = False,
) -> Section:
    """Return section 5.1.2 or 5.2.2: the report's grid over g and h."""
    own = theirs["lsh"][network.key]
    scan = theirs["scan"][network.key]["with"]["euclidean"]
    name = f"lsh-{section}.png"
    tables, series = _grid(
        own["settings"], own["width"], scan["mean"], searches, f"Settings, k = {K}, w = {own['width']} in the report"
    )
    tables.append(_tuned_table(searches, series))
    if uniform:
        tables.append(_uniform_table(own, searches))
    _draw(series, folder / name)
    kept = mean(one["p_euclidean"] for one in own["settings"]) / scan["p_at_k"]
    predicted = [
        float(meeting(np.array([scan["mean"]]), width=own["width"], hashes=one["hashes"], tables=one["tables"])[0])
        for one in own["settings"]
    ]
    why = (
        f"For neighbours at the report's average distance, {scan['mean']}, and its w of {own['width']} theory predicts "
        f"a recall of {min(predicted):.3f} to {max(predicted):.3f} for its settings. It kept {kept:.0%} of the P@10 of "
        "its scan. "
    )
    if min(predicted) > 0.5:
        why += (
            "So narrow slots cannot be why: by the formula on its page nearly all neighbours would have been "
            "candidates, and far more images than it tells of. What its index did instead it does not say; the table "
            "of directions tries one way to depart from the formula."
        )
    else:
        why += (
            "So its slots are too narrow for its distances: most neighbours are never looked at, and what remains is "
            "the share of the class among whatever fell into the same buckets. Wider slots mend it, at the price of "
            "more items; the rows fitted to a recall show which."
        )
    return Section(section, title, (_of(network), why, *_GRID_TEXT), tables, (_picture(name),))


_GRID_TEXT = (
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


def _picture(name: str) -> Picture:
    return Picture(name, "Recall of each setting against the share of the images that it examines")


def _grid(
    settings: Sequence[Mapping[str, Any]], width: float, distance: float | None, searches: Searches, title: str
) -> tuple[list[Table], dict[str, tuple[list[tuple[float, float]], str]]]:
    """Return the table of a grid, and the points of its settings by kind."""
    near = float(searches.neighbours.mean()) or distance or 1.0  # 0 if the images are all alike to the network
    series: dict[str, tuple[list[tuple[float, float]], str]] = {
        "the report's w": ([], "o"),
        "w in proportion": ([], "s"),
        f"w for a recall of {RECALL}": ([], "^"),
    }
    rows: list[_Row] = []
    for one in settings:
        g, h = one["tables"], one["hashes"]
        if "items" in one:
            rows.append(_their_row(one, width, distance))
        widths = [width] + ([width / distance * near] if distance else [])
        widths.append(width_for(searches.neighbours, hashes=h, tables=g, recall=RECALL))
        kinds = [kind for kind in series if distance or kind != "w in proportion"]
        for kind, w in zip(kinds, widths, strict=True):
            found = searches.index(Setting(g, h, w), seeds=_SEEDS)
            rows.append(_our_row(_setting(g, h), kind, found))
            series[kind][0].append((found.euclidean.share, found.euclidean.recall))
    count = len(rows) // max(1, len(settings))
    return [Table(title, _GRID_COLUMNS, tuple(rows), groups=count)], series


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


def _their_row(one: Mapping[str, Any], width: float, distance: float | None) -> _Row:
    predicted = None
    if distance:
        chance = meeting(np.array([distance]), width=width, hashes=one["hashes"], tables=one["tables"])
        predicted = float(chance[0])
    return (
        _setting(one["tables"], one["hashes"]),
        THEIRS,
        number(width, 1),
        number(one["p_euclidean"]),
        number(one["distance"]),
        number(one["p_cosine"]),
        number(one["similarity"]),
        number(one["items"], 0),
        number(one["items"] / published()["images"], 4),
        "–",
        "–",
        "–",
        number(predicted),
    )


def _setting(tables: int, hashes: int) -> str:
    return f"g={tables}\N{NO-BREAK SPACE}h={hashes}"


def _our_row(setting: str, kind: str, found: Indexed) -> _Row:
    euclidean, cosine = found.euclidean, found.cosine
    return (
        setting,
        kind,
        number(found.setting.width, 2),
        number(euclidean.p_at_k),
        number(euclidean.mean),
        number(cosine.p_at_k),
        number(cosine.mean),
        number(euclidean.items, 0),
        number(euclidean.share, 4),
        number(found.predicted_share, 4),
        number(euclidean.recall),
        f"{number(min(found.recalls))} to {number(max(found.recalls))}",
        number(found.predicted_recall),
    )


def _tuned_table(searches: Searches, series: dict[str, tuple[list[tuple[float, float]], str]]) -> Table:
    """Return what Artseek's own index does, with the scan beside it, and add it to the points."""
    parameters, found = searches.tuned(seed=_TUNED_SEED, recall=RECALL_TARGET)
    scan = searches.scan("cosine")
    series[f"Artseek's index, tuned for {RECALL_TARGET}"] = ([(found.share, found.recall)], "*")
    named = {"cells": "cells", "hashes": "h", "width": "w"}
    said = ", ".join(f"{title}={parameters[name]}" for name, title in named.items() if name in parameters)
    setting = f"{parameters['family']}: g={parameters['tables']} {said}, {parameters['probes']} probes"
    rows = [
        (
            name,
            number(one.p_at_k),
            number(one.ap_at_k),
            number(one.mean),
            number(one.items, 0),
            number(one.share, 4),
            number(one.recall),
        )
        for name, one in (("exact scan", scan), (setting, found))
    ]
    columns = ("", "P@10 cosine", "AP@10", "avg sim", "#items", "share", "recall")
    return Table(f"Artseek's own index, tuned for a recall of {RECALL_TARGET}", columns, tuple(rows))


def _uniform_table(own: Published, searches: Searches) -> Table:
    """Return what the report's widest setting does with directions of another distribution."""
    best = max(own["settings"], key=lambda one: one["p_euclidean"])
    g, h = best["tables"], best["hashes"]
    rows: list[_Row] = []
    for factor in (1, 4, 16, 64):
        width = own["width"] * factor
        for kind, directions in (("normal", "normal"), ("from 0 to 1", "uniform")):
            found = searches.index(Setting(g, h, width), seeds=_SEEDS, directions=directions)  # type: ignore[arg-type]
            rows.append(_our_row(_setting(g, h), kind, found))
    return Table(
        "Directions drawn from the normal distribution, as theory asks, or evenly from 0 to 1: these have a part in "
        "common, along which all hash functions measure the same",
        ("setting", "directions", *_GRID_COLUMNS[2:]),
        tuple(rows),
        groups=2,
    )


def _draw(series: Mapping[str, tuple[list[tuple[float, float]], str]], path: Path) -> None:
    from reproduction.pictures import draw_recall  # noqa: PLC0415 -- takes a second to import

    draw_recall({name: points for name, points in series.items() if points[0]}, path)


# 6: trained networks


def trained(section: str, network: Network, name: str, run: Mapping[str, Any], theirs: Published) -> Section:
    """Return a section on a trained model: its classification report and its curves, from the run's result."""
    own, report = theirs["models"][name], run["report"]
    rows: list[_Row] = []
    for label, one in [
        *report["classes"].items(),
        ("macro avg", report["macro"]),
        ("weighted avg", report["weighted"]),
    ]:
        said = own["classes"].get(label) or {"macro avg": own["macro"], "weighted avg": own["weighted"]}.get(label)
        cells = []
        for key in ("precision", "recall", "f1"):
            cells += [number(said[key] if said else None, 2), number(one[key], 2)]
        support = said.get("support") if said else None
        rows.append((label, *cells, number(support, 0), number(one["support"], 0)))
    scores = Table(
        "Classification report",
        ("class", *(f"{key}, {who}" for key in ("precision", "recall", "F1", "support") for who in (THEIRS, "here"))),
        tuple(rows),
    )
    outcome = Table(
        "On the validation images",
        ("", "accuracy", "loss", "epochs", "taken"),
        (
            (f"{network.title}, {THEIRS}", number(own["accuracy"], 4), number(own["loss"], 4), "–", "–"),
            (
                network.told,
                number(run["accuracy"], 4),
                number(run["loss"], 4),
                str(run["epochs"]),
                str(run["best_epoch"]),
            ),
        ),
    )
    limit, patience, slow = run["limit"], run["patience"], run["learning_rate"] <= _SLOW
    if run["epochs"] < limit:
        ended = f"It ended by itself after {run['epochs']} epochs, {patience} after the one with the lowest loss."
    else:
        ended = f"It was ended by --epochs {limit}. The report does not say how many epochs its own took" + (
            f"; at a learning rate of {run['learning_rate']:g} it will have been many." if slow else "."
        )
    return Section(
        section,
        f"{network.title}: {name.rpartition('-')[2].replace('model', 'Model ')}",
        (run["about"], ended),
        (outcome, scores),
        (Picture(f"{name}-curves.png", "Loss and accuracy by epoch"),),
    )


def scanning_trained(
    section: str, network: Network, theirs: Published, found: Mapping[str, tuple[Mapping[str, Any], Searches]]
) -> Section:
    """Return section 6.1.6 or 6.2.5: the sequential scan with embeddings of the trained models, by their names."""
    rows: list[_Row] = []
    for name, (run, searches) in found.items():
        own = theirs["models"][name]
        said = own["scan"] or {}
        title = _model(name)
        rows.append(
            (
                title,
                THEIRS,
                number(own["accuracy"], 4),
                number(own["loss"], 4),
                *(number(said.get(key)) for key in ("p_euclidean", "distance", "p_cosine", "similarity")),
                "–",
                number(theirs["images"], 0),
            )
        )
        kinds = {"here": searches, "here, without distractors": searches.without_distractors()}
        for kind, one in kinds.items():
            euclidean, cosine = one.scan("euclidean"), one.scan("cosine")
            rows.append(
                (
                    title,
                    kind,
                    number(run["accuracy"], 4),
                    number(run["loss"], 4),
                    number(euclidean.p_at_k),
                    number(euclidean.mean),
                    number(cosine.p_at_k),
                    number(cosine.mean),
                    number(cosine.ap_at_k),
                    number(len(one), 0),
                )
            )
    return Section(
        section,
        f"Sequential search after fine tuning, using {network.title}",
        (
            _of(network),
            (
                "The embedding is the pooled features before the dense layers. Fine-tuning for the classes alone may "
                "bring images of a class together and lose what tells them from everything else, so the rows without "
                "distractors stand beside."
            ),
        ),
        (
            Table(
                f"Sequential scan, k = {K}",
                (
                    "",
                    "",
                    "accuracy",
                    "loss",
                    "P@10 Euclidean",
                    "avg dist",
                    "P@10 cosine",
                    "avg sim",
                    "AP@10 cosine",
                    "#items",
                ),
                tuple(rows),
                groups=3,
            ),
        ),
    )


def indexing_trained(
    section: str, network: Network, theirs: Published, found: Mapping[str, Searches], folder: Path
) -> Section:
    """Return section 6.1.7, the report's settings of each model, or 6.2.6, which the report left empty: its grid."""
    grid = theirs["lsh"][network.key]
    tables: list[Table] = []
    series: dict[str, tuple[list[tuple[float, float]], str]] = {}
    for name, searches in found.items():
        own = theirs["models"][name]
        settings = [own["lsh"]] if own["lsh"] else _bare(grid["settings"])
        distance = own["scan"]["distance"] if own["scan"] else None
        made, points = _grid(settings, grid["width"], distance, searches, f"{_model(name)}, k = {K}")
        tables += made
        for kind, (some, marker) in points.items():
            series.setdefault(kind, ([], marker))[0].extend(some)
        tables.append(_tuned_table(searches, series))
    name = f"lsh-{section}.png"
    _draw(series, folder / name)
    empty = not any(theirs["models"][one]["lsh"] for one in found)
    text = (
        f"The report left this section empty: its grid of section 5.2.2, w = {grid['width']}, is run on each model."
        if empty
        else f"The report gives the best setting of each model, with w = {grid['width']}."
    )
    return Section(
        section,
        f"LSH index after fine tuning, using {network.title}",
        (_of(network), text, *_GRID_TEXT),
        tables,
        (_picture(name),),
    )


def _bare(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"tables": one["tables"], "hashes": one["hashes"]} for one in settings]


def _model(name: str) -> str:
    return name.rpartition("-")[2].replace("model", "Model ")
