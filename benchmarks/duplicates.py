"""How well planted duplicates are found among other pictures, how long it takes, and whether the stated share holds.

    python -m benchmarks.duplicates FOLDER... [--groups 1000] [--images 12026] [--same FILE] [--out FILE.json]
    python -m benchmarks.duplicates FOLDER... --keep DIR [--for 600]

It needs a running system (`ARTSEEK_DATA`), adds a collection to it, and removes that at the end. With `--keep` it needs
none: the same steps are made in this process, and kept in a folder. With `--for` it ends after so many seconds; the
same command goes on from there, and prints what was found so far.

A group is a picture of the folders and one to three copies of it, each of another kind (`benchmarks.proof.copy_of`).
The folders hold pictures twice that nobody knows of: `--out` has each pair that was found and not planted, to be looked
at; those that show the same are named in the file of `--same`, two names of files a line, and are then no errors.
"""

import argparse
import json
import math
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.proof import KINDS, copy_of
from shared.duplicates.grouping import groups_of
from shared.duplicates.pairs import Pair, ordered
from shared.duplicates.report import DuplicateReport
from shared.duplicates.share import Verdict, judging_order, share_of
from shared.duplicates.store import Duplicates
from shared.folders import walk
from shared.settings import load_settings
from shared.storage.layout import digest_of, image_id
from shared.storage.object_store import ObjectStore

_MOST_COPIES: Final = 3
_JUDGED: Final = 50  # pairs of a sample
_ROUNDS: Final = 200  # samples
_THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--images", type=int, default=12_026)
    parser.add_argument("--same", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="make the steps in this process, and keep them here")
    parser.add_argument("--for", dest="at_most_s", type=float, default=math.inf, help="seconds, with --keep")
    options = parser.parse_args()
    found = _found_alone(options) if options.keep else _found_by_system(options)
    report, groups, planted, seconds = found.report, found.groups, found.planted, found.seconds
    truth = planted.truth(options.same)
    figures = {"steps": seconds, **_figures(report, groups, planted, truth)}
    print(json.dumps(figures, indent=2))
    if options.out:
        wrong = [_described(pair, planted.names) for pair in report.pairs if pair.ids not in truth]
        missed = [
            [planted.names[a], planted.names[b], *planted.kinds_of(a, b)]
            for a, b in sorted(planted.pairs() - {pair.ids for pair in report.pairs})
        ]
        options.out.write_text(json.dumps(figures | {"not_planted": wrong, "missed": missed}, indent=1))


@dataclass(frozen=True)
class _Found:
    """What was found among planted files, its groups, and the seconds that each step took."""

    report: DuplicateReport
    groups: Sequence[Sequence[int]]
    planted: "Planted"
    seconds: Mapping[str, object]


def _found_by_system(options: argparse.Namespace) -> _Found:
    """Search by a running system."""
    collection = f"bench-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(options.folders, Path(folder), options.groups, options.images, options.seed)
        began = time.perf_counter()
        _artseek("ingest", folder, "--collection", collection, "--json")
        ingested_s = time.perf_counter() - began
    try:
        answer = json.loads(_artseek("duplicates", "--collection", collection, "--json"))
        report = Duplicates(ObjectStore.from_settings(load_settings())).get(collection, answer["report"]["id"])
        groups = [[image["id"] for image in group["images"]] for group in answer["groups"]]
    finally:
        _artseek("collections", "delete", collection, "--yes")
    return _Found(report, groups, planted, {"ingestion": round(ingested_s, 1)})


def _found_alone(options: argparse.Namespace) -> _Found:
    """Search in this process, as far as the time goes."""
    from benchmarks.duplicate_steps import DuplicateSteps, Paused  # noqa: PLC0415 -- a running system needs none of it

    until = time.monotonic() + options.at_most_s
    named = options.keep / f"planted-{options.groups}-{options.images}-{options.seed}"
    planted = Planted.read(named / "planted.json")
    if planted is None:
        (named / "files").mkdir(parents=True, exist_ok=True)
        planted = plant(options.folders, named / "files", options.groups, options.images, options.seed)
        planted.write(named / "planted.json")
    files = {image: named / "files" / name for image, name in planted.names.items()}
    steps = DuplicateSteps(files, named, until=until)
    state = "whole"
    try:
        steps.search()
    except Paused as paused:
        state = f"paused at {paused}"
    report = steps.report()
    seconds = {step: round(spent, 1) for step, spent in steps.seconds.items()}
    return _Found(report, groups_of(report.pairs), planted, {"state": state, "processor_seconds": seconds})


class Planted:
    """What was planted: groups of ids, and the name and kind of each image by its id."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.names: dict[int, str] = {}
        self.kinds: dict[int, str] = {}

    @classmethod
    def read(cls, file: Path) -> "Planted | None":
        """Return what `write` wrote; None if it did not."""
        if not file.exists():
            return None
        stored, planted = json.loads(file.read_text()), cls()
        planted.groups = stored["groups"]
        planted.names = {int(image): name for image, name in stored["names"].items()}
        planted.kinds = {int(image): kind for image, kind in stored["kinds"].items()}
        return planted

    def write(self, file: Path) -> None:
        """Write it into a file."""
        file.write_text(json.dumps(vars(self)))

    def pairs(self) -> set[tuple[int, int]]:
        """Return all pairs of all groups."""
        return {ordered(a, b) for group in self.groups for a, b in combinations(group, 2)}

    def kinds_of(self, a: int, b: int) -> list[str]:
        """Return what was made of each of two images."""
        return [self.kinds.get(member, "original") for member in (a, b)]

    def truth(self, same: Path | None) -> set[tuple[int, int]]:
        """Return all pairs that show the same: those planted, and those of a file with those of their copies."""
        family: dict[str, list[int]] = {}
        for copy_id, name in self.names.items():
            family.setdefault(name.partition(" ")[0], []).append(copy_id)
        found = self.pairs()
        for line in same.read_text().splitlines() if same else ():
            first, second = (family.get(name, []) for name in line.split())
            found |= {ordered(a, b) for a in first for b in second if a != b}
        return found


def plant(folders: Sequence[Path], target: Path, groups: int, images: int, seed: int) -> Planted:
    """Write pictures and copies into a folder, so many in all; a copy is named for its picture and kind."""
    chance = np.random.default_rng(seed)
    files = sorted(source.path for source in walk(folders, labels_from_folders=False))
    order = [files[number] for number in chance.permutation(len(files))]
    planted, written, names = Planted(), set[int](), set[str]()
    counts = [int(count) for count in chance.integers(1, _MOST_COPIES + 1, groups)]

    def write(name: str, data: bytes, kind: str) -> int | None:
        copy_id = image_id(digest_of(data))
        if copy_id in written or name in names:
            return None
        written.add(copy_id)
        names.add(name)
        (target / name).write_bytes(data)
        planted.names[copy_id], planted.kinds[copy_id] = name, kind
        return copy_id

    for place, path in enumerate(order):
        if len(written) >= images:
            break
        original = write(path.name, path.read_bytes(), "original")
        if original is None or place >= groups:
            continue
        group = [original]
        for kind in chance.choice(KINDS, counts[place], replace=False):
            with Image.open(path) as opened:
                data, _, _ = copy_of(opened.convert("RGB"), str(kind), chance)
            copy = write(f"{path.name} {kind}.jpg", data, str(kind))
            group += [] if copy is None else [copy]
        planted.groups.append(group)
    return planted


def _figures(
    report: DuplicateReport, groups: Sequence[Sequence[int]], planted: Planted, truth: set[tuple[int, int]]
) -> dict[str, Any]:
    found = {pair.ids for pair in report.pairs}
    wanted = planted.pairs()
    homes = {member: number for number, group in enumerate(planted.groups) for member in group}
    whole = [all(ordered(group[0], member) in found for member in group[1:]) for group in planted.groups]
    pure = [all(ordered(a, b) in truth for a, b in combinations(group, 2)) for group in groups]
    missed = Counter(kind for a, b in wanted - found for kind in planted.kinds_of(a, b) if kind != "original")
    return {
        "images": report.images,
        "seconds": report.seconds,
        "compared": report.compared,
        "planted_groups": len(planted.groups),
        "planted_copies": len(homes) - len(planted.groups),
        "groups_shown": len(groups),
        "group_precision": float(np.mean(pure)) if pure else None,
        "group_recall": float(np.mean(whole)),
        "pairs_found": len(found),
        "pair_precision": len(found & truth) / max(1, len(found)),
        "pair_recall": len(found & wanted) / max(1, len(wanted)),
        "missed_by_kind": dict(missed),
        "share": _coverage(report, truth),
    }


def _coverage(report: DuplicateReport, truth: set[tuple[int, int]]) -> dict[str, Any]:
    """Return for thresholds the true share of duplicates among the pairs shown, and how often the interval has it."""
    told: dict[str, Any] = {}
    for threshold in _THRESHOLDS:
        pairs = [pair for pair in report.pairs if pair.agreement >= threshold]
        if not pairs:
            continue
        inside = []
        for number in range(_ROUNDS):
            verdicts = _judged(pairs, truth, str(number))
            shown = [pair for pair in pairs if verdicts.get(pair.ids) != "different"]
            true = sum(pair.ids in truth for pair in shown) / len(shown)
            stated = share_of(pairs, verdicts, seed=str(number))
            inside.append((stated.low or 0) - 1e-9 <= true <= (stated.high or 0) + 1e-9)
        share = sum(pair.ids in truth for pair in pairs) / len(pairs)
        told[f"{threshold:g}"] = {"pairs": len(pairs), "true_share": share, "covered": float(np.mean(inside))}
    return told


def _judged(pairs: Sequence[Pair], truth: set[tuple[int, int]], seed: str) -> Mapping[tuple[int, int], Verdict]:
    """Return verdicts on a sample, judged in the order in which the page asks."""
    return {pair.ids: "same" if pair.ids in truth else "different" for pair in judging_order(pairs, seed)[:_JUDGED]}


def _described(pair: Pair, names: Mapping[int, str]) -> dict[str, Any]:
    told = {"agreement": pair.agreement, "inliers": pair.inliers, "score": pair.score, "ways": list(pair.ways)}
    return {"a": names[pair.a], "b": names[pair.b], **told}


def _artseek(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "cli", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in {0, 3}:  # 3: some files are no images
        raise SystemExit(f"artseek {arguments[0]} ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
