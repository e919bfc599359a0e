"""Makes a gallery of sample works on the spot: free photographs in five styles, from drawing to sculpture.

The photographs are files that the scikit-image package itself carries; nothing is downloaded. Only those are used that
its documentation declares free of restrictions:

- astronaut.png: Eileen Collins, NASA's Great Images database; public domain.
- camera.png: a photographer, by Lav Varshney; CC0.
- chelsea.png: a cat, by Stefan van der Walt; CC0.
- coffee.png: a cup, by Rachel Michetti, courtesy of Pikolo Espresso Bar; CC0.
- coins.png: Greek coins from Pompeii, Brooklyn Museum Collection; no known copyright restrictions.
- horse.png: a silhouette, by Andreas Preuss; CC0.
- rocket.jpg: a Falcon 9 on its pad, SpaceX; public domain.

Run as `python -m local.demo.sample_gallery DIR`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from local.demo.sample_styles import STYLES, Mask, Motif

_LONGER_SIDE = (400, 481)  # pixels of a work, from and below
_QUALITY = 90


@dataclass(frozen=True)
class _Photograph:
    """A source: its file, where its subject is (shares of width and height), and the least share a window may have."""

    file: str
    focus: tuple[float, float]
    least: float


_PHOTOGRAPHS = (
    _Photograph("astronaut.png", (0.44, 0.25), 0.5),
    _Photograph("camera.png", (0.42, 0.28), 0.6),
    _Photograph("chelsea.png", (0.52, 0.42), 0.7),
    _Photograph("coffee.png", (0.47, 0.47), 0.65),
    _Photograph("coins.png", (0.5, 0.5), 0.34),
    _Photograph("horse.png", (0.5, 0.48), 1.0),
    _Photograph("rocket.jpg", (0.5, 0.6), 0.45),
)


def render(folder: Path, *, works: int = 100, seed: int = 0) -> list[Path]:
    """Makes the sample gallery: JPEG files in one subfolder per style.

    The works are made in a temporary folder beside the target and moved in when all are done. Works already there are
    kept, so that a second call does nothing. The same seed gives the same works.

    Args:
        folder: where the gallery shall be.
        works: how many works in all, shared evenly among the five styles.
        seed: chooses the windows, flips, colours and textures.

    Returns:
        The works, sorted by path.

    Raises:
        FileNotFoundError: a photograph is not where scikit-image keeps it.
        ValueError: `works` is below 1.
    """
    if works < 1:
        msg = f"works is {works}, expected 1 or more"
        raise ValueError(msg)
    names = [_name(index) for index in range(works)]
    missing = [index for index, name in enumerate(names) if not (folder / name).is_file()]
    if missing:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            for style in STYLES:
                (Path(temporary) / style).mkdir()
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda index: _make(Path(temporary) / names[index], index, seed), missing))
            for name in (names[index] for index in missing):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(temporary) / name).replace(folder / name)
    return sorted(folder / name for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.demo.sample_gallery", description=render.__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the gallery shall be")
    parser.add_argument("--works", type=int, default=100, help="how many works in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="chooses windows, colours, textures (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        made = render(options.folder, works=options.works, seed=options.seed)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the sample gallery could not be made: {error}\n")
        return 1
    sys.stdout.write(f"{len(made)} works in {options.folder}\n")
    return 0


def _source(index: int) -> tuple[str, _Photograph, int]:
    """A work's style, photograph, and number among the works of its style."""
    style = list(STYLES)[index % len(STYLES)]
    number = index // len(STYLES)
    # Neighbouring styles begin with different photographs, so that a small gallery shows all of them.
    return style, _PHOTOGRAPHS[(number + 2 * (index % len(STYLES))) % len(_PHOTOGRAPHS)], number


def _name(index: int) -> str:
    style, photograph, number = _source(index)
    return f"{style}/{Path(photograph.file).stem}-{number + 1:03d}.jpg"


def _make(path: Path, index: int, seed: int) -> None:
    style, photograph, _ = _source(index)
    rng = np.random.default_rng((seed, index))
    work = STYLES[style](_window(photograph, rng), rng)
    pixels = np.rint(np.clip(work, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=_QUALITY)


def _window(photograph: _Photograph, rng: np.random.Generator) -> Motif:
    """A part of the photograph around its subject, mirrored or not."""
    image, figure = _loaded(photograph.file)
    share = rng.uniform(photograph.least, 1)
    aspect = rng.choice([0.75, 0.8, 1.0, 1.25])
    width = min(image.width, image.height * aspect) * share
    height = width / aspect
    focus = [photograph.focus[0] + rng.uniform(-0.05, 0.05), photograph.focus[1] + rng.uniform(-0.05, 0.05)]
    if photograph.least < 0.4:  # subjects all over: any of them will do
        focus = list(rng.uniform(0.2, 0.8, 2))
    if photograph.least == 1:  # nothing but one subject: it is shown whole
        width, height = image.width, image.height
    left = float(np.clip(focus[0] * image.width - width / 2, 0, image.width - width))
    top = float(np.clip(focus[1] * image.height - height / 2, 0, image.height - height))
    box = (left, top, left + width, top + height)
    scale = rng.integers(*_LONGER_SIDE) / max(width, height)
    size = (round(width * scale), round(height * scale))
    mirrored = rng.random() < 0.5
    x, y = (focus[0] * image.width - left) / width, (focus[1] * image.height - top) / height
    rgb = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box)) / 255
    mask = None
    if figure is not None:
        mask = np.asarray(Image.fromarray(figure.astype(np.uint8) * 255).resize(size, box=box)) > 127
    if mirrored:
        x, rgb, mask = 1 - x, rgb[:, ::-1], None if mask is None else mask[:, ::-1]
    return Motif(rgb, (float(np.clip(x, 0.2, 0.8)), float(np.clip(y, 0.2, 0.8))), mask)


@cache
def _loaded(name: str) -> tuple[Image.Image, Mask | None]:
    """A photograph in RGB, and its subject's outline where it stands out clearly."""
    path = resources.files("skimage") / "data" / name
    if not path.is_file():
        msg = f"scikit-image has no {name}: install scikit-image 0.26 or newer, whose wheel carries it"
        raise FileNotFoundError(msg)
    with resources.as_file(path) as file, Image.open(file) as opened:
        image = opened.convert("RGBA")
    flat = Image.new("RGBA", image.size, (255, 255, 255, 255))
    flat.alpha_composite(image)
    rgb = flat.convert("RGB")
    if name == "horse.png":
        # The silhouette gets the look of a body: lighter in its middle and from above, on a hazy ground.
        body = np.pad(np.asarray(rgb.convert("L")) < 128, ((84, 60), (60, 60)))
        round_ = np.clip(ndimage.distance_transform_edt(body) / 34, 0, 1) ** 0.6
        down = np.linspace(1, 0, body.shape[0])[:, None]
        sky = np.stack([0.62 + 0.3 * down, 0.70 + 0.22 * down, 0.72 + 0.24 * down], -1) + np.zeros((*body.shape, 1))
        coat = np.array([0.42, 0.25, 0.15]) * (0.35 + 0.9 * round_ * (0.45 + 0.55 * down))[..., None]
        shown = np.where(body[..., None], coat, sky)
        return Image.fromarray((np.clip(shown, 0, 1) * 255).astype(np.uint8)), body
    return rgb, None


if __name__ == "__main__":
    sys.exit(main())
