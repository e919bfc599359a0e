"""The `artseek report` command: the university report's tables, made anew from a folder of images.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 interrupted: the same command goes on from where it was.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from reproduction import chapters, page
from reproduction.collection import Images, read_images
from reproduction.networks import PLAIN, Network, embeddings, networks
from reproduction.searching import Searches
from reproduction.sections import Section
from shared.errors import ArtseekError, Invalid
from training.labelled import digest_of
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
        network.beginning()
    if out.exists() and any(out.iterdir()) and not (out / "report.json").exists():
        raise Invalid(f"{str(out)!r} is not empty and holds no report; choose another folder with --out")
    with locked(out):
        out.mkdir(exist_ok=True)
        with progress_bars() as progress:
            found = read_images(images, progress)
        made = _Report(out, found, both, epochs, training=not no_training)
        made.run()
    if as_json:
        _out.print_json((out / "report.json").read_text("utf-8"))
    else:
        _out.print(f"{out / 'report.html'}, and report.md, report.json beside it", markup=False, soft_wrap=True)


class _Report:
    """Makes section after section, and the page after each."""

    def __init__(
        self, folder: Path, images: Images, both: tuple[Network, Network], epochs: int, *, training: bool
    ) -> None:
        self._folder, self._images, self._networks, self._epochs = folder, images, both, epochs
        self._theirs = chapters.published()
        self._about = {
            "images searched": f"{len(images.gallery):,} in {len(images.gallery.classes)} classes, "
            f"{len(images.distractors):,} distractors",
            "queries": f"{len(images.queries):,}",
            "SHA-256 of the images": digest_of(images.pictures, [*images.gallery.classes]),
            **{f"{one.title} is run as": f"{one.told}, weights {one.weights}" for one in both},
            "epochs of a training": f"at most {epochs}" if training else "none: section 6 was left out",
            "made by": f"Artseek {metadata.version('artseek')}",
        }
        self._sections = _outline(both, training=training)

    def run(self) -> None:
        """Make all sections that are wanted."""
        self._write()
        self._put(chapters.cleaning(self._images, self._theirs, self._folder))
        for number, network in enumerate(self._networks, 1):
            right = self._searches(network, {PLAIN: None})[PLAIN]
            fed = self._searches(network, {PLAIN: None}, as_fed=True)[PLAIN]
            self._put(chapters.scanning(f"5.{number}.1", network, self._theirs, right, fed, self._images))
            self._put(
                chapters.indexing(
                    f"5.{number}.2",
                    f"LSH index after features extraction, using {network.title}",
                    network,
                    self._theirs,
                    right,
                    self._folder,
                    uniform=number == 1,
                )
            )
        if any(one.pending for one in self._sections.values()):
            for number, network in enumerate(self._networks, 1):
                self._trained(f"6.{number}", network)

    def _trained(self, chapter: str, network: Network) -> None:
        runs = {}
        for place, name in enumerate(_MODELS[network.key], 1):
            runs[name] = self._train(network, name)
            self._put(chapters.trained(f"{chapter}.{place}", network, name, runs[name], self._theirs))
        found = self._searches(network, {name: self._run(name) for name in runs})
        places = len(runs)
        self._put(
            chapters.scanning_trained(
                f"{chapter}.{places + 1}",
                network,
                self._theirs,
                {name: (runs[name], searches) for name, searches in found.items()},
            )
        )
        self._put(chapters.indexing_trained(f"{chapter}.{places + 2}", network, self._theirs, found, self._folder))

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
            "--data": self._images.training,
            "--validation": self._images.validation,
            "--epochs": limit,
            "--out": self._run(name),
        }
        command = [sys.executable, "-m", "training.command", "--json"]
        for option, value in arguments.items():
            command += [option, str(value)]
        _err.print(f"training {name} on {network.backbone}, {limit} epochs at most", markup=False)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise ArtseekError(f"the training of {name} ended with status {done.returncode}: see above")
        shutil.copyfile(self._run(name) / "curves.png", self._folder / f"{name}-curves.png")
        result = dict(json.loads(done.stdout))
        told = {"about": recipe.about, "limit": limit, "patience": recipe.patience}
        return result | told | {"learning_rate": recipe.learning_rate}

    def _run(self, name: str) -> Path:
        return self._folder / "runs" / name

    def _searches(
        self, network: Network, runs: Mapping[str, Path | None], *, as_fed: bool = False
    ) -> dict[str, Searches]:
        images = self._images
        with progress_bars() as progress:
            tell: Callable[[int, int], None] = progress(f"embeddings by {network.backbone}")
            made = embeddings(self._folder / "embeddings", network, runs, images.pictures, tell, as_fed=as_fed)
        searched = len(images.labels)
        return {
            name: Searches(
                vectors[:searched], images.labels, vectors[searched:], images.queries.labels, images.queries.classes
            )
            for name, vectors in made.items()
        }

    def _put(self, section: Section) -> None:
        """Take a section up and write the page."""
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
