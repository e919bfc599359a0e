"""Sections 5.x.1, 6.1.6 and 6.2.5: the sequential scan, with pretrained networks and with trained ones."""

from collections.abc import Mapping
from typing import Any

from reproduction.chapters.texts import about_network, model_title
from reproduction.images import ReportImages, queries_to_leak
from reproduction.networks import Network
from reproduction.published import Published
from reproduction.searches import K, Scores, Searches
from reproduction.sections import THEIRS, Section, Table, number

_LEAKED_CLASS = "painting"
_LEAKED_SHARE = 161 / 228  # of the public set's queries of this class, byte-identical to an image that is searched

_Row = tuple[str, ...]
_Scans = Mapping[str, tuple[Scores, Scores, int]]
"""By label of a row: the scores by Euclidean distance and by cosine, and how many images were scanned."""


def scan_section(
    section: str,
    network: Network,
    published: Published,
    searches: Searches,
    report_pixel_searches: Searches,
    images: ReportImages,
) -> Section:
    """Return section 5.1.1 or 5.2.1.

    Args:
        section: The number.
        network: What embedded the images.
        published: The report's own figures.
        searches: With embeddings of pixels as the network expects them.
        report_pixel_searches: With embeddings of pixels as the report fed them.
        images: What was embedded.
    """
    published_scans = published["scan"][network.key]
    leaking = _leaking(searches, images)
    variants = {
        network.label: searches,
        f"{network.label}, pixels as the report fed them": report_pixel_searches,
        **({f"{network.label}, with the leak": leaking[0]} if leaking else {}),
    }
    tables = []
    for name, key in (("without distractors", "without"), ("with distractors", "with")):
        if key == "with" and not images.distractors:
            continue
        searched = {
            label: variant if key == "with" else variant.without_distractors() for label, variant in variants.items()
        }
        scans = {
            label: (variant.scan("euclidean"), variant.scan("cosine"), len(variant))
            for label, variant in searched.items()
        }
        title = f"Sequential scan {name}, k = {K}"
        tables += [
            _scan_table(title, network, published_scans[key], scans, published["images"]),
            _class_table(f"P@{K} of each class, {name}", network, published_scans[key], scans, images),
        ]
    return Section(
        section,
        f"Sequential search after features extraction, using {network.title}",
        (
            about_network(network),
            (
                "What the report calls mAP is the share of the query's class among the first 10, here P@10. Its "
                "tables with and without distractors both say 32,791 items, so what it searched without is unknown."
            ),
            (
                "The report divided pixels by 255 and gave the network nothing else of its preprocessing: "
                f"{network.report_pixels}. That variant is the second row of figures made here."
            ),
            *([leaking[1]] if leaking else []),
        ),
        tables,
    )


def trained_scan_section(
    section: str, network: Network, published: Published, trained: Mapping[str, tuple[Mapping[str, Any], Searches]]
) -> Section:
    """Return section 6.1.6 or 6.2.5.

    Args:
        section: The number.
        network: What was trained.
        published: The report's own figures.
        trained: By name of the model, the result of its training and searches with its embeddings.
    """
    rows: list[_Row] = []
    for name, (run, searches) in trained.items():
        rows.append(_published_model_row(name, published))
        rows.append(_model_row(name, "here", run, searches))
        rows.append(_model_row(name, "here, without distractors", run, searches.without_distractors()))
    columns = ("", "", "accuracy", "loss", "P@10 Euclidean", "avg dist", "P@10 cosine", "avg sim")
    return Section(
        section,
        f"Sequential search after fine tuning, using {network.title}",
        (
            about_network(network),
            (
                "The embedding is the pooled features before the dense layers. Fine-tuning for the classes alone may "
                "bring images of a class together and lose what tells them from everything else, so the rows without "
                "distractors stand beside."
            ),
        ),
        (Table(f"Sequential scan, k = {K}", (*columns, "AP@10 cosine", "#items"), tuple(rows), groups=3),),
    )


def _leaking(searches: Searches, images: ReportImages) -> tuple[Searches, str] | None:
    """Return the same searches with the public set's leak, and a text about the leak; None without such a class."""
    if _LEAKED_CLASS not in images.queries.classes:
        return None
    places = queries_to_leak(images, _LEAKED_CLASS, _LEAKED_SHARE)
    text = (
        f"In the public data set 161 of the 228 {_LEAKED_CLASS} queries are byte-identical to an image that is "
        f"searched. The row with the leak has copies of as large a share of them, {len(places)}, among the images: "
        "each then finds itself first. A copy can raise the P@10 of its query by a tenth at most; copies that were "
        "resized or cut, of which the public set has more, do the same and cannot be told by their bytes."
    )
    return searches.with_leaked(places), text


def _scan_table(title: str, network: Network, published_scan: Published, scans: _Scans, items: int) -> Table:
    published_scores = (
        number(published_scan[metric][name]) for metric in ("euclidean", "cosine") for name in ("p_at_k", "mean")
    )
    rows: list[_Row] = [(f"{network.title}, {THEIRS}", *published_scores, "–", "–", number(items, 0))]
    rows += [
        (
            label,
            number(euclidean.p_at_k),
            number(euclidean.mean),
            number(cosine.p_at_k),
            number(cosine.mean),
            number(euclidean.ap_at_k),
            number(cosine.ap_at_k),
            number(count, 0),
        )
        for label, (euclidean, cosine, count) in scans.items()
    ]
    columns = ("", "P@10 Euclidean", "avg dist", "P@10 cosine", "avg sim", "AP@10 Euclidean", "AP@10 cosine", "#items")
    return Table(title, columns, tuple(rows))


def _class_table(title: str, network: Network, published_scan: Published, scans: _Scans, images: ReportImages) -> Table:
    classes = images.queries.classes
    rows: list[_Row] = []
    for metric in ("euclidean", "cosine"):
        published_classes = published_scan[metric]["per_class"]
        rows.append((f"{network.title}, {THEIRS}", metric, *(number(published_classes.get(name)) for name in classes)))
        for label, (euclidean, cosine, _) in scans.items():
            scores = euclidean if metric == "euclidean" else cosine
            rows.append((label, metric, *(number(scores.per_class[name]) for name in classes)))
    return Table(title, ("", "metric", *classes), tuple(rows), groups=len(scans) + 1)


def _published_model_row(name: str, published: Published) -> _Row:
    model = published["models"][name]
    scan = model["scan"] or {}
    return (
        model_title(name),
        THEIRS,
        number(model["accuracy"], 4),
        number(model["loss"], 4),
        *(number(scan.get(key)) for key in ("p_euclidean", "distance", "p_cosine", "similarity")),
        "–",
        number(published["images"], 0),
    )


def _model_row(name: str, label: str, run: Mapping[str, Any], searches: Searches) -> _Row:
    euclidean, cosine = searches.scan("euclidean"), searches.scan("cosine")
    return (
        model_title(name),
        label,
        number(run["accuracy"], 4),
        number(run["loss"], 4),
        number(euclidean.p_at_k),
        number(euclidean.mean),
        number(cosine.p_at_k),
        number(cosine.mean),
        number(cosine.ap_at_k),
        number(len(searches), 0),
    )
