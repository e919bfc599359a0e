"""Images a second of an ingestion, by cores, processes of the embedder, and threads of an operation of the model.

Each system runs on the first of the cores; all of it, as on a machine that has no more. The settings take turns, so
that a machine that slows down flatters none. `of the best` is beside the best of the same cores, and `by itself` marks
what `shared/parallelism.py` chooses.

    python -m benchmarks.parallelism [--processes 1 2 3 4] [--cores 1 2] [--images 400] [--rounds 2]
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.ingest import files_of, linked
from benchmarks.machine import cores_of_processor, shares_of_best
from benchmarks.system import export_models, system_on
from local.demo import sample_gallery
from shared.parallelism import Parallelism

_FIRST: Final = 64  # images that are added before: the first ones wait for the model's first calls


@dataclass(frozen=True, order=True)
class Setting:
    """What is varied."""

    cores: int
    processes: int
    threads: int

    @property
    def is_chosen(self) -> bool:
        """Whether it is what these cores have without a setting."""
        chosen = Parallelism.of_cores(self.cores)
        return (self.processes, self.threads) == (chosen.embed_processes, chosen.model_threads)


def main() -> None:
    """Print a table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usable = sorted(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--cores", type=int, nargs="+", default=sorted({1, len(usable)}))
    parser.add_argument("--images", type=int, default=400, help="of each ingestion")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if not 1 <= min(options.cores) <= max(options.cores) <= len(usable):
        parser.error(f"--cores {' '.join(map(str, options.cores))}: there are {len(usable)}")
    export_models()
    settings = [
        Setting(cores, processes, threads)
        for cores in options.cores
        for processes in options.processes
        for threads in sorted({1, cores})
    ]
    rates: defaultdict[Setting, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch:
        gallery = Path(scratch) / "gallery"
        sample_gallery.render(gallery, works=_FIRST + options.images)
        files = files_of(gallery, _FIRST + options.images)
        folders = [
            linked(part, Path(scratch) / name)
            for name, part in (("first", files[:_FIRST]), ("measured", files[_FIRST:]))
        ]
        for _ in range(options.rounds):
            for setting in settings:
                rates[setting].append(_rate(usable[: setting.cores], setting, folders))
                sys.stderr.write(f"{setting}: {rates[setting][-1]:.1f} images/s\n")
    sys.stdout.write(f"{cores_of_processor()}\n\n")
    sys.stdout.write(_table({setting: median(found) for setting, found in rates.items()}))


def _rate(cores: list[int], setting: Setting, folders: list[Path]) -> float:
    """Return the images a second of ingesting the last folder, the others before, by a new system on some cores."""
    environment = {
        "ARTSEEK_EMBED_PROCESSES": str(setting.processes),
        "ARTSEEK_MODEL_THREADS": str(setting.threads),
    }
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # which the system inherits, and the commands
    try:
        with (
            tempfile.TemporaryDirectory(prefix="artseek-bench-") as data,
            system_on(Path(data), environment=environment) as system,
        ):
            return [float(system.artseek("ingest", str(folder))["images_per_second"]) for folder in folders][-1]
    finally:
        os.sched_setaffinity(0, all_cores)


def _table(rates: dict[Setting, float]) -> str:
    shares = shares_of_best(rates, lambda setting: setting.cores)
    lines = [
        "| cores | processes of the embedder | threads of an operation | images a second | of the best | |",
        "|---|---|---|---|---|---|",
    ]
    for setting, rate in sorted(rates.items()):
        lines.append(
            f"| {setting.cores} | {setting.processes} | {setting.threads} | {rate:.1f} "
            f"| {shares[setting]:.2f} | {'by itself' if setting.is_chosen else ''} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
