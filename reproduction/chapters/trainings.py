"""Sections 6.x.1 and following: the classification report of each trained model."""

from collections.abc import Mapping
from typing import Any

from reproduction.chapters.texts import model_title
from reproduction.networks import Network
from reproduction.published import Published
from reproduction.sections import THEIRS, Plot, Section, Table, number

_SLOW_LEARNING_RATE = 1e-5  # by which a few epochs change little


def training_section(
    section: str, network: Network, name: str, run: Mapping[str, Any], published: Published
) -> Section:
    """Return the section on a trained model.

    Args:
        section: The number.
        network: What was trained.
        name: Of the model.
        run: The result of the training, with its recipe's `about`, `patience` and `learning_rate`, and the `limit` of
            epochs.
        published: The report's own figures.
    """
    return Section(
        section,
        f"{network.title}: {model_title(name)}",
        (run["about"], _why_it_ended(run)),
        (
            _outcome_table(network, run, published["models"][name]),
            _scores_table(run["report"], published["models"][name]),
        ),
        (Plot(f"{name}-curves.png", "Loss and accuracy by epoch"),),
    )


def _why_it_ended(run: Mapping[str, Any]) -> str:
    if run["epochs"] < run["limit"]:
        return f"It ended by itself after {run['epochs']} epochs, {run['patience']} after the one with the lowest loss."
    text = f"It was ended by --epochs {run['limit']}. The report does not say how many epochs its own took"
    if run["learning_rate"] <= _SLOW_LEARNING_RATE:
        return f"{text}; at a learning rate of {run['learning_rate']:g} it will have been many."
    return f"{text}."


def _outcome_table(network: Network, run: Mapping[str, Any], model: Published) -> Table:
    return Table(
        "On the validation images",
        ("", "accuracy", "loss", "epochs", "taken"),
        (
            (f"{network.title}, {THEIRS}", number(model["accuracy"], 4), number(model["loss"], 4), "–", "–"),
            (
                network.label,
                number(run["accuracy"], 4),
                number(run["loss"], 4),
                str(run["epochs"]),
                str(run["best_epoch"]),
            ),
        ),
    )


def _scores_table(report: Mapping[str, Any], model: Published) -> Table:
    means = {"macro avg": "macro", "weighted avg": "weighted"}
    rows = []
    for label, scores in [*report["classes"].items(), *((label, report[key]) for label, key in means.items())]:
        published_scores = model["classes"].get(label) or (model[means[label]] if label in means else None) or {}
        cells = []
        for key in ("precision", "recall", "f1"):
            cells += [number(published_scores.get(key), 2), number(scores[key], 2)]
        rows.append((label, *cells, number(published_scores.get("support"), 0), number(scores["support"], 0)))
    titles = (f"{key}, {whose}" for key in ("precision", "recall", "F1", "support") for whose in (THEIRS, "here"))
    return Table("Classification report", ("class", *titles), tuple(rows))
