"""Tells in ten minutes whether Artseek has become slower: ratios, beside those that were committed last.

Ingestion is compared with a bare loop of the model, the index with FAISS's exact scan, the query service with the index
in process, HTTP with the query service: each pair in the same run, in turns. Exit status 1: a ratio is lower than the
committed one by a fifth or more, or was not measured; standard error names it.

    python -m benchmarks.check [--only index ingestion] [--renew]
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmarks import committed_ratios
from benchmarks.committed_ratios import Ratio, compare, failures, lines
from benchmarks.ingest import bare_loop_rate, files_of, linked
from benchmarks.report import describe_machine
from benchmarks.runner import Skipped
from benchmarks.search_layers import measure_layers
from benchmarks.system import running_system
from local.demo import sample_gallery

_PIECES, _IMAGES = 3, 400  # ingestions, and images of each
_FIRST: Final = 64  # images that are added before: the first ones wait for the model's first calls


def measure_ingestion() -> list[Ratio]:
    """Ingest images of a sample gallery piece by piece, the bare loop over as many before and after each."""
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch, running_system() as system:
        gallery = Path(scratch) / "gallery"
        sample_gallery.render(gallery, works=_FIRST + _PIECES * _IMAGES)
        files = files_of(gallery, _FIRST + _PIECES * _IMAGES)
        system.artseek("ingest", str(linked(files[:_FIRST], Path(scratch) / "first")))
        bare: list[float] = []
        rates: list[float] = []
        for number in range(_PIECES):
            start = _FIRST + number * _IMAGES
            piece = linked(files[start : start + _IMAGES], Path(scratch) / str(number))
            if not bare:
                bare.append(bare_loop_rate(piece, _IMAGES))
            rates.append(float(system.artseek("ingest", str(piece))["images_per_second"]))
            bare.append(bare_loop_rate(piece, _IMAGES))
    values = [2 * rate / (before + after) for rate, (before, after) in zip(rates, pairwise(bare), strict=True)]
    return [Ratio("ingestion-to-loop", "images/s of an ingestion / a bare loop of the model", values)]


def measure_index() -> list[Ratio]:
    """Measure the layers around a search, on servers in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch:
        return measure_layers(folder=Path(scratch))


PARTS: Final[Mapping[str, Callable[[], list[Ratio]]]] = {"index": measure_index, "ingestion": measure_ingestion}


def main() -> None:
    """Measure, print, and compare, or renew what is committed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts to measure")
    parser.add_argument("--renew", action="store_true", help="write the ratios into benchmarks/ratios.json")
    options = parser.parse_args()
    committed = committed_ratios.load()
    ratios: list[Ratio] = []
    skipped = []
    for name in options.only:
        try:
            ratios += _measure(PARTS[name], {} if options.renew else committed)
        except Skipped as reason:
            skipped.append(f"{name} was not measured: {reason}")
    comparisons = compare(ratios, committed)
    print("\n".join(lines(comparisons)))
    if options.renew:
        machine = describe_machine({})
        committed_ratios.save(ratios, {name: machine[name] for name in ("processor", "cores")})
        print(f"written to benchmarks/{committed_ratios.FILE.name}: commit it")
        return
    expected = committed if set(options.only) == set(PARTS) else ()
    failed = [*skipped, *failures(comparisons, expected)]
    if failed:
        sys.exit("\n".join(failed))


def _measure(part: Callable[[], list[Ratio]], committed: Mapping[str, float]) -> list[Ratio]:
    """Return the ratios of a part; if one has fallen, the part is measured once more, and both times count."""
    ratios = part()
    if any(found.has_fallen for found in compare(ratios, committed)):
        again = {ratio.name: ratio.values for ratio in part()}
        ratios = [replace(ratio, values=[*ratio.values, *again[ratio.name]]) for ratio in ratios]
    return ratios


if __name__ == "__main__":
    main()
