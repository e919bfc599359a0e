"""Images a second and P@10 of each backbone and size, so that one can choose: ``python -m benchmarks.backbones``.

Each is exported as it would be served, and embeds batches of 32, as the embedder sends them, in a process with oneDNN
and in one without. P@10 is the share of a query's class among the ten nearest images by an exact scan, without and with
images of no class. Without a folder of images, the pictures are works of the sample gallery, which tell speeds well and
qualities hardly.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.features import sample_pictures
from benchmarks.machine import cores_of_processor
from benchmarks.model_speed import SpeedProcess
from shared.errors import ArtseekError
from shared.evaluation.retrieval_metrics import precision_at_k
from shared.folders import walk
from shared.images import ImageRefused, decode
from shared.tensorflow_runtime import import_quietly
from training.architecture import Architecture
from training.backbones import BACKBONES, backbone_named
from training.manifest import read_manifest
from training.model_versions import export_pretrained
from training.pretrained import Imagenet, RandomWeights, Weights
from training.weights import WeightsError

_log = logging.getLogger(__name__)

_BATCH = 32
_K = 10
_REFERENCE = "efficientnet-lite0 224"
_WORKS = 400

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pictures:
    """Files, the class of each or None, and whether each is a query."""

    paths: list[Path]
    labels: list[str | None]
    is_query: list[bool]


@dataclass(frozen=True)
class Row:
    """What was measured of a model; P@10 is None for one with random weights, or without labelled images."""

    model: str
    dim: int
    weights: str
    images_per_second: float
    without_onednn: float
    of_reference: float | None
    p_at_10: float | None
    p_at_10_mixed: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with a folder of images for each class")
    parser.add_argument("--queries", type=Path, help="such a folder to ask with (default: up to 250 of --data)")
    parser.add_argument("--background", type=Path, help="folder of images of no class")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="exported versions to measure as well")
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 224, 260], help="of the input, in pixels")
    parser.add_argument("--out", type=Path, default=Path("build/bench/backbones.json"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
            speeds = [running.enter_context(SpeedProcess(onednn=onednn)) for onednn in (True, False)]
            pictures = _pictures(options.data, options.queries, options.background, Path(scratch))
            rows: list[Row] = []
            for name, folder, weights in _models(options.sizes, options.models, Path(scratch)):
                rows.append(_measure_model(name, folder, weights, pictures, speeds))
                _log.info("%s", rows[-1])
    except (ArtseekError, OSError) as error:
        _log.error("error: %s", error)
        return 1
    reference = next((row.images_per_second for row in rows if row.model == _REFERENCE), None)
    if reference:
        rows = [replace(row, of_reference=row.images_per_second / reference) for row in rows]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", "utf-8")
    sys.stdout.write(f"{cores_of_processor()}\n\n{_table(rows)}")
    return 0


def _pictures(data: Path | None, queries: Path | None, background: Path | None, scratch: Path) -> Pictures:
    data = sample_pictures(scratch, _WORKS) if data is None else data
    labelled = list(walk([data], labels_from_folders=True))
    rng = np.random.default_rng(0)
    is_query = np.zeros(len(labelled), dtype=bool)
    if queries is None:
        is_query[rng.permutation(len(labelled))[:250]] = True
    pictures = [(source.path, source.label, bool(query)) for source, query in zip(labelled, is_query, strict=True)]
    if queries is not None:
        pictures += [(source.path, source.label, True) for source in walk([queries], labels_from_folders=True)]
    if background is not None:
        pictures += [(source.path, None, False) for source in walk([background], labels_from_folders=False)]
    paths, labels, flags = (list(column) for column in zip(*pictures, strict=True))
    return Pictures(paths, labels, flags)


def _models(sizes: Sequence[int], given: Sequence[Path], scratch: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield the models to measure: name, folder of the version, kind of weights."""
    for name in BACKBONES:
        kind, weights = _weights(name)
        for size in sizes:
            architecture = replace(Architecture.plain(backbone_named(name)), input_size=size, shorter_side=size)
            export_pretrained(architecture, weights, scratch, f"{name}-{size}", 1)
            yield f"{name} {size}", scratch / f"{name}-{size}" / "1", kind
    for folder in given:
        yield f"{folder.parent.name} {folder.name}", folder, "trained"


def _weights(name: str) -> tuple[str, Weights]:
    """Return ImageNet's weights of a backbone and their kind, or random ones, which tell the speed alone."""
    try:
        with redirect_stdout(sys.stderr):  # Keras tells of its downloads
            backbone_named(name).build(Imagenet())
    except WeightsError as error:
        _log.info("%s has random weights, so no quality: %s", name, error)
        return "random", RandomWeights(0)
    return "imagenet", Imagenet()


def _measure_model(name: str, folder: Path, weights: str, pictures: Pictures, speeds: Sequence[SpeedProcess]) -> Row:
    """Return what is measured of a model; `speeds` are the processes with oneDNN and without."""
    manifest = read_manifest(folder)
    if not manifest:
        raise ArtseekError(f"{folder} holds no exported model; give the folder of a version, such as models/search/1")
    with_onednn, without = (speed.images_per_second(folder) for speed in speeds)
    p_at_10 = p_at_10_mixed = None
    if weights != "random":
        embed = import_quietly("training.savedmodel").saved_model_embed(folder)
        p_at_10, p_at_10_mixed = _quality(embed, int(manifest["input_size"]), pictures)
    return Row(name, int(manifest["dim"]), weights, with_onednn, without, None, p_at_10, p_at_10_mixed)


def _quality(embed: Any, size: int, pictures: Pictures) -> tuple[float, float | None]:
    """Return P@10 among labelled images, and among all of them where there are others."""
    vectors, kept = _embedded(embed, size, pictures.paths)
    labels = np.array([pictures.labels[place] or "" for place in kept])
    is_query = np.array([pictures.is_query[place] for place in kept])
    gallery, queries = np.flatnonzero(~is_query), np.flatnonzero(is_query)
    similar = vectors[queries] @ vectors[gallery].T

    def p_at_10(searched: npt.NDArray[np.bool_]) -> float:
        nearest = np.argsort(-np.where(searched, similar, -np.inf), axis=1, kind="stable")[:, :_K]
        return float(precision_at_k(labels[gallery][nearest] == labels[queries][:, None]).mean())

    mixed = p_at_10(np.ones(len(gallery), dtype=bool)) if (labels == "").any() else None
    return p_at_10(labels[gallery] != ""), mixed


def _embedded(embed: Any, size: int, paths: Sequence[Path]) -> tuple[Floats, list[int]]:
    """Return embeddings of length 1, float32 [n, dim], and the places of the files that are images."""

    def read(path: Path) -> npt.NDArray[np.uint8] | None:
        try:
            return decode(path.read_bytes(), size=size)[0]
        except ImageRefused:
            return None

    vectors, kept = [], []
    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
        for start in range(0, len(paths), _BATCH):
            images = list(pool.map(read, paths[start : start + _BATCH]))
            places = [place for place, image in enumerate(images) if image is not None]
            if places:
                vectors.append(np.asarray(embed(np.stack([image for image in images if image is not None]))))
                kept += [start + place for place in places]
    stacked = np.concatenate(vectors)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True), kept


def _table(rows: Sequence[Row]) -> str:
    def shown(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    lines = [
        f"| model | dimensions | weights | images a second | without oneDNN | of {_REFERENCE} | P@10 | P@10, mixed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.model} | {row.dim} | {row.weights} | {row.images_per_second:.0f} | {row.without_onednn:.0f} | "
        f"{shown(row.of_reference, 2)} | {shown(row.p_at_10, 3)} | {shown(row.p_at_10_mixed, 3)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
