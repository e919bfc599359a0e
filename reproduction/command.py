"""The `artseek report` command: the university report's tables, made anew from a folder of images.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 interrupted: the same command goes on from where it was.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from reproduction import chapters, page
from reproduction.images import ReportImages, read_images
from reproduction.networks import PLAIN, Network, embeddings, networks
from reproduction.published import published
from reproduction.searches import Searches
from reproduction.sections import Section
from shared.errors import ArtseekError, Invalid
from training.labelled_images import digest_of
from training.progress import progress_bars
from training.recipes import ClassRecipe, recipe_named
from training.runs import locked

_MODELS = {
    "resnet50": tuple(f"resnet50-model{number}" for number in range(1, 6)),
    "resnet50v2": tuple(f"resnet50v2-model{number}" for number in range(1, 5)),
}
_EPOCHS = 5
_WEIGHTS = "The report's {}: imagenet (downloaded), random, or a file.  [default: {} stands in]"

_err = Console(stderr=True, highlight=False)
_out = Console(highlight=False)


@click.command()
@click.argument("images", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="Folder for report.html, report.md and report.json, with what they are made of.",
)
@click.option("--resnet50", help=_WEIGHTS.format("first network", "efficientnet-lite0"))
@click.option("--resnet50v2", help=_WEIGHTS.format("second network", "efficientnet-lite2"))
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    help="Side of the pictures in pixels.  [default: 300 for the report's networks, else the network's own]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=_EPOCHS,
    show_default=True,
    help="Of each of the nine trainings at most; 200 lets them end by themselves, which takes a GPU or a night.",
)
@click.option("--no-training", is_flag=True, help="Leave out section 6: the trained models.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json in the end.")
def report(**options: Any) -> None:
    """Reproduce the university report from the images in DIR; needs no running system.

    DIR has the folders train/CLASS, validation/CLASS and, if there are any, distractor, in it or in its folder art.
    The page is written anew after each section, so that there is something to read from the first minutes on.
    """
    try:
        _report(**options)
    except (ArtseekError, OSError) as error:
        _err.print(f"artseek: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        _err.print("\nartseek: interrupted; the same command goes on from here")
        sys.exit(130)


def _report(
    *,
    images: Path,
    out: Path,
    resnet50: str | None,
    resnet50v2: str | None,
    size: int | None,
    epochs: int,
    no_training: bool,
    as_json: bool,
) -> None:
    both = networks(resnet50, resnet50v2, size)
    for network in both:
        network.pretrained_weights()  # which raises if there is no such file
    if out.exists() and any(out.iterdir()) and not (out / "report.json").exists():
        raise Invalid(f"{str(out)!r} is not empty and holds no report; choose another folder with --out")
    with locked(out):
        out.mkdir(exist_ok=True)
        with progress_bars() as bar:
            report_images = read_images(images, bar)
        _Report(out, report_images, both, epochs, training=not no_training).run()
    if as_json:
        _out.print_json((out / "report.json").read_text("utf-8"))
    else:
        _out.print(f"{out / 'report.html'}, and report.md, report.json beside it", markup=False, soft_wrap=True)


class _Report:
    """Makes a section after another, and writes the page after each."""

    def __init__(
        self, folder: Path, images: ReportImages, both: tuple[Network, Network], epochs: int, *, training: bool
    ) -> None:
        self._folder, self._images, self._networks, self._epochs = folder, images, both, epochs
        self._published = published()
        self._about = {
            "images searched": f"{len(images.gallery):,} in {len(images.gallery.classes)} classes, "
            f"{len(images.distractors):,} distractors",
            "queries": f"{len(images.queries):,}",
            "SHA-256 of the images": digest_of(images.all_images, [*images.gallery.classes]),
            **{f"{network.title} is run as": f"{network.label}, weights {network.weights}" for network in both},
            "epochs of a training": f"at most {epochs}" if training else "none: section 6 was left out",
            "made by": f"Artseek {metadata.version('artseek')}",
        }
        self._sections = _outline(both, training=training)

    def run(self) -> None:
        """Make all sections of the outline."""
        self._write()
        self._put(chapters.cleaning_section(self._images, self._published, self._folder))
        for number, network in enumerate(self._networks, 1):
            self._run_pretrained(number, network)
        if any(section.pending for section in self._sections.values()):
            for number, network in enumerate(self._networks, 1):
                self._run_trained(f"6.{number}", network)

    def _run_pretrained(self, number: int, network: Network) -> None:
        searches = self._searches(network, {PLAIN: None})[PLAIN]
        report_pixel_searches = self._searches(network, {PLAIN: None}, report_pixels=True)[PLAIN]
        self._put(
            chapters.scan_section(
                f"5.{number}.1", network, self._published, searches, report_pixel_searches, self._images
            )
        )
        self._put(
            chapters.index_section(
                f"5.{number}.2",
                network,
                self._published,
                searches,
                self._folder,
                with_uniform_directions=number == 1,
            )
        )

    def _run_trained(self, chapter: str, network: Network) -> None:
        runs = {}
        for place, name in enumerate(_MODELS[network.key], 1):
            runs[name] = self._train(network, name)
            self._put(chapters.training_section(f"{chapter}.{place}", network, name, runs[name], self._published))
        searches = self._searches(network, {name: self._run_folder(name) for name in runs})
        trained = {name: (runs[name], searches[name]) for name in runs}
        scans, indexes = f"{chapter}.{len(runs) + 1}", f"{chapter}.{len(runs) + 2}"
        self._put(chapters.trained_scan_section(scans, network, self._published, trained))
        self._put(chapters.trained_index_section(indexes, network, self._published, searches, self._folder))

    def _train(self, network: Network, name: str) -> dict[str, Any]:
        """Return the result of a training, gone on with or begun now: by `artseek train`, in a process of its own."""
        recipe = recipe_named(name)
        if not isinstance(recipe, ClassRecipe):
            raise TypeError(f"{name} does not learn classes")
        limit = min(self._epochs, recipe.epochs)
        arguments = {
            "--recipe": name,
            "--backbone": network.backbone,
            "--weights": network.weights,
            "--size": network.size,
            "--data": self._images.training_folder,
            "--validation": self._images.validation_folder,
            "--epochs": limit,
            "--out": self._run_folder(name),
        }
        command = [sys.executable, "-m", "training.command", "--json"]
        for option, value in arguments.items():
            command += [option, str(value)]
        _err.print(f"training {name} on {network.backbone}, {limit} epochs at most", markup=False)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise ArtseekError(f"the training of {name} ended with status {done.returncode}: see above")
        shutil.copyfile(self._run_folder(name) / "curves.png", self._folder / f"{name}-curves.png")
        result = dict(json.loads(done.stdout))
        about_recipe = {"about": recipe.about, "limit": limit, "patience": recipe.patience}
        return result | about_recipe | {"learning_rate": recipe.learning_rate}

    def _run_folder(self, name: str) -> Path:
        return self._folder / "runs" / name

    def _searches(
        self, network: Network, runs: Mapping[str, Path | None], *, report_pixels: bool = False
    ) -> dict[str, Searches]:
        images = self._images
        with progress_bars() as bar:
            vectors = embeddings(
                self._folder / "embeddings",
                network,
                runs,
                images.all_images,
                bar(f"embeddings by {network.backbone}"),
                report_pixels=report_pixels,
            )
        labels = images.searched_labels
        return {
            name: Searches(
                of_run[: len(labels)], labels, of_run[len(labels) :], images.queries.labels, images.queries.classes
            )
            for name, of_run in vectors.items()
        }

    def _put(self, section: Section) -> None:
        """Put a section into its place, and write the page."""
        self._sections[section.number] = section
        self._write()

    def _write(self) -> None:
        page.write(self._folder, list(self._sections.values()), self._about)


def _outline(both: tuple[Network, Network], *, training: bool) -> dict[str, Section]:
    """Return the sections that are to be made, in their order, by their numbers."""
    first, second = both
    titles = {"2.1": "Data cleaning"}
    for number, network in ((1, first), (2, second)):
        titles[f"5.{number}.1"] = f"Sequential search after features extraction, using {network.title}"
        titles[f"5.{number}.2"] = f"LSH index after features extraction, using {network.title}"
    for number, network in ((1, first), (2, second)) if training else ():
        names = _MODELS[network.key]
        titles |= {f"6.{number}.{place}": f"{network.title}: Model {place}" for place in range(1, len(names) + 1)}
        titles[f"6.{number}.{len(names) + 1}"] = f"Sequential search after fine tuning, using {network.title}"
        titles[f"6.{number}.{len(names) + 2}"] = f"LSH index after fine tuning, using {network.title}"
    return {number: Section(number, title, pending=True) for number, title in titles.items()}
