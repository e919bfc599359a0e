"""Section 2.1: the images of each class after cleaning, and the files that were left out."""

from pathlib import Path

from reproduction.images import ReportImages
from reproduction.published import Published
from reproduction.sections import THEIRS, Plot, Section, Table, number

_LISTED_FILES = 20  # of those that are refused


def cleaning_section(images: ReportImages, published: Published, folder: Path) -> Section:
    """Return section 2.1; its plot is written into the report's folder."""
    from reproduction.plots import draw_classes  # noqa: PLC0415 -- takes a second to import

    draw_classes({"training": images.gallery.sizes, "validation": images.queries.sizes}, folder / "classes.png")
    tables = [_classes_table(images, published)]
    if images.refused:
        tables.append(_refused_table(images))
    searched = len(images.gallery) + len(images.distractors)
    paragraphs = (
        (
            f"{len(images.refused):,} files cannot be decoded and are left out, and so are {images.copies:,} that "
            f"are byte-identical to another of their class. {len(images.distractors):,} images without a class are "
            f"searched beside the training images, and never relevant: together {searched:,}, the report's "
            f"{published['images']:,}."
        ),
        (
            "The report shows the classes of its training images as a picture without numbers, so they are not "
            "repeated here; those of its validation images stand in its classification reports. It removed files "
            "that could not be opened, and looked for no copies. An image that is both searched and searched for "
            "finds itself: here such images are left out of the search."
        ),
    )
    plot = Plot("classes.png", "Images of each class, for training and validation")
    return Section("2.1", "Data cleaning", paragraphs, tables, (plot,))


def _classes_table(images: ReportImages, published: Published) -> Table:
    rows = [
        (
            name,
            f"{images.gallery.sizes[name]:,}",
            f"{images.queries.sizes[name]:,}",
            number(published["validation"].get(name), 0),
            f"{images.leaked[name]:,}",
        )
        for name in images.gallery.classes
    ]
    totals = (
        len(images.gallery),
        len(images.queries),
        sum(published["validation"].values()),
        sum(images.leaked.values()),
    )
    gallery, queries, published_queries, leaked = (f"{total:,}" for total in totals)
    rows.append(("all", gallery, queries, published_queries, leaked))
    return Table(
        "Images of each class after cleaning",
        ("class", "training", "validation", f"validation, {THEIRS}", "left out: also in validation"),
        tuple(rows),
    )


def _refused_table(images: ReportImages) -> Table:
    rows = [(file.path.name, file.path.parent.name, file.reason) for file in images.refused[:_LISTED_FILES]]
    if len(images.refused) > _LISTED_FILES:
        rows.append((f"and {len(images.refused) - _LISTED_FILES:,} more", "", ""))
    return Table("Files that are no images", ("file", "in", "why"), tuple(rows))
