"""How often copies are recognised by their local features, and how often pictures that are none are taken for copies.

    python -m benchmarks.proof FOLDER... [--copies 500] [--look-alikes 5000] [--vectors FILE.npy]
        [--same FILE] [--out FILE.json]

Copies are made of pictures of the folders. A look-alike of a picture is one of its nearest neighbours, within its
subfolder: by the vectors of `--vectors` (a row for each file, in the order of their paths), or else by small grey
copies. Folders hold pictures twice that nobody knows of: `--out` has every pair that was taken for copies, to be looked
at; those that show the same are named in the file of `--same`, two names of files a line, and left out.
"""

import argparse
import io
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance
from scipy.stats import binomtest

from shared.folders import walk
from shared.images import DEFAULT_LIMITS, ImageRefused
from shared.proof.child import local_features_of
from shared.proof.comparison import compare
from shared.proof.extraction import SIDE
from shared.proof.features import LocalFeatures
from shared.proof.findings import Proof

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

KINDS = ("crop", "mirror", "rotation", "resize", "jpeg", "colours", "scan", "caption")
_NEIGHBOURS = 10
_MOST_ERROR = 0.1  # of a side: what a box may be off


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--look-alikes", type=int, default=5000)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--same", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted(source.path for source in walk(options.folders, labels_from_folders=False))
    features = _Features()
    chance = np.random.default_rng(options.seed)
    copies = [_copy_row(features, path, kind, chance) for path, kind in _originals(files, options.copies, chance)]
    pairs = _look_alikes(files, options, chance)
    began = time.perf_counter()
    others = [
        _row(compare(features.of(one), features.of(other))) | {"a": str(one), "b": str(other)} for one, other in pairs
    ]
    spent = time.perf_counter() - began
    report = _report(copies, others) | {"ms_per_look_alike": round(1e3 * spent / max(1, len(others)), 1)}
    print(json.dumps(report, indent=2))
    if options.out:
        rows = {"copies": copies, "taken_for_copies": [row for row in others if row["same"]], "look_alikes": others}
        options.out.write_text(json.dumps(report | rows))


class _Features:
    """Local features of files, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, LocalFeatures] = {}

    def of(self, path: Path) -> LocalFeatures:
        if path not in self._known:
            self._known[path] = of_bytes(path.read_bytes())
        return self._known[path]


def of_bytes(data: bytes) -> LocalFeatures:
    """Return the local features of an image file."""
    return local_features_of(data, longest=SIDE, limits=DEFAULT_LIMITS)


def _originals(files: Sequence[Path], count: int, chance: np.random.Generator) -> Iterator[tuple[Path, str]]:
    for place, number in enumerate(chance.permutation(len(files))[:count]):
        yield files[number], KINDS[place % len(KINDS)]


def copy_of(picture: Image.Image, kind: str, chance: np.random.Generator) -> tuple[bytes, Matrix, bool]:
    """Return a copy of a picture as a JPEG, the geometry from the picture to it [3, 3], and whether it is mirrored."""
    width, height = picture.size
    matrix, mirrored, quality = np.eye(3), False, 85
    match kind:
        case "crop":
            share = np.sqrt(chance.uniform(0.25, 0.75))
            left, top = (int(chance.uniform(0, (1 - share) * side)) for side in (width, height))
            picture = picture.crop((left, top, left + int(share * width), top + int(share * height)))
            matrix[:2, 2] = -left, -top
        case "mirror":
            picture, mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), True
            matrix[0] = -1, 0, width
        case "rotation":
            angle = chance.uniform(-15, 15)
            matrix[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            turned = cv2.warpAffine(np.asarray(picture), matrix[:2], (width, height), borderValue=(255, 255, 255))
            picture = Image.fromarray(turned)
        case "resize":
            factor = float(chance.choice([0.4, 0.5, 0.7, 1.5, 2.0]))
            size = max(1, round(width * factor)), max(1, round(height * factor))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
            matrix = np.diag([size[0] / width, size[1] / height, 1.0])
        case "jpeg":
            quality = 30
        case "colours":
            shifts = chance.uniform(0.7, 1.3, 3)
            picture = Image.fromarray(np.clip(np.asarray(picture) * shifts, 0, 255).astype(np.uint8))
            picture = ImageEnhance.Contrast(picture).enhance(chance.uniform(0.6, 1.4))
        case "scan":
            noise = chance.normal(0, 12, (height, width, 1))
            shade = np.linspace(0.85, 1.1, width)[None, :, None]
            picture = Image.fromarray(np.clip(np.asarray(picture) * shade + noise, 0, 255).astype(np.uint8))
        case "caption":
            draw = ImageDraw.Draw(picture)
            top = int(height * 0.8)
            draw.rectangle((0, top, width, height), fill=(20, 20, 20))
            draw.text((4, top + 4), "Collection of prints and drawings, plate 14", fill=(240, 240, 240))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue(), matrix, mirrored


def _copy_row(features: _Features, path: Path, kind: str, chance: np.random.Generator) -> dict[str, Any]:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    data, matrix, mirrored = copy_of(picture, kind, chance)
    original, copy = features.of(path), of_bytes(data)
    proof = compare(original, copy)
    row = _row(proof) | {"kind": kind, "file": str(path), "features": len(original)}
    if proof.same:
        row["error"] = box_error(proof, (picture.width, picture.height), (copy.width, copy.height), matrix)
        row["mirror_right"] = proof.mirrored == mirrored
    return row


def box_error(proof: Proof, size_a: tuple[int, int], size_b: tuple[int, int], matrix: Matrix) -> float:
    """Return by how much a box is off at its worst side, in parts of that side's length."""
    corners = np.array([[0, 0], [size_a[0], 0], [size_a[0], size_a[1]], [0, size_a[1]]], float)
    laid = corners @ matrix[:2, :2].T + matrix[:2, 2]
    _, part = cv2.intersectConvexConvex(
        laid.astype(np.float32), np.array([[0, 0], [size_b[0], 0], list(size_b), [0, size_b[1]]], np.float32)
    )
    true = np.asarray(part).reshape(-1, 2)
    back = (true - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T
    worst = 0.0
    for told, known in ((np.array(proof.in_b), true), (np.array(proof.in_a), back)):
        sides = np.ptp(known, axis=0)
        off = np.abs(np.stack([told.min(axis=0) - known.min(axis=0), told.max(axis=0) - known.max(axis=0)])) / sides
        worst = max(worst, float(off.max()))
    return worst


def _look_alikes(
    files: Sequence[Path], options: argparse.Namespace, chance: np.random.Generator
) -> list[tuple[Path, Path]]:
    """Return pairs of files of one folder that look alike."""
    vectors = np.load(options.vectors) if options.vectors else np.stack([_small(path) for path in files])
    folders = np.array([str(path.parent) for path in files])
    pairs: list[tuple[Path, Path]] = []
    seen: set[tuple[int, int]] = set()
    lines = options.same.read_text().splitlines() if options.same else []
    same = {frozenset(line.split()) for line in lines}
    for number in chance.permutation(len(files)):
        if len(pairs) >= options.look_alikes:
            break
        likeness = vectors @ vectors[number]
        likeness[folders != folders[number]] = -2
        likeness[number] = -2
        for other in np.argsort(-likeness)[:_NEIGHBOURS]:
            pair = (min(number, other), max(number, other))
            names = frozenset((files[number].name, files[other].name))
            if likeness[other] > -2 and pair not in seen and names not in same:
                seen.add(pair)
                pairs.append((files[pair[0]], files[pair[1]]))
    return pairs[: options.look_alikes]


def _small(path: Path) -> Floats:
    with Image.open(path) as opened:
        values = np.asarray(opened.convert("L").resize((16, 16)), np.float32).ravel()
    values -= values.mean()
    return values / max(1e-6, float(np.linalg.norm(values)))


def _row(proof: Proof) -> dict[str, Any]:
    numbers = {"inliers": proof.inliers, "matches": proof.matches, "mirrored": proof.mirrored}
    told = {"agreement": round(proof.agreement, 3), "spread": round(proof.spread, 3), "reason": proof.reason}
    return {"same": proof.same, **numbers, **told}


def _report(copies: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = [row for row in copies if row["same"]]
    wrong = sum(row["same"] for row in others)
    errors = [row["error"] for row in found]
    kinds = Counter(row["kind"] for row in copies)
    return {
        "copies": len(copies),
        "found": _share(len(found), len(copies)),
        "found_by_kind": {kind: sum(row["kind"] == kind for row in found) / kinds[kind] for kind in kinds},
        "boxes_within_a_tenth": float(np.mean([error <= _MOST_ERROR for error in errors])) if errors else None,
        "look_alikes": len(others),
        "taken_for_copies": _share(wrong, len(others)),
    }


def _share(count: int, of: int) -> dict[str, float] | None:
    """Return a share with its interval (Clopper and Pearson 1934), 95 %."""
    if not of:
        return None
    low, high = binomtest(count, of).proportion_ci(0.95, method="exact")
    return {"count": count, "share": count / of, "low": float(low), "high": float(high)}


if __name__ == "__main__":
    try:
        main()
    except ImageRefused as refused:
        raise SystemExit(f"a picture of the folders cannot be read: {refused}") from None
