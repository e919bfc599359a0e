"""What a search costs over HTTP, and what the system costs in memory, on a collection of some thousand images.

Times are shown beside what they are made of, measured in the same run: a search by id beside one product of the same
vectors with a query in this process, a search by file beside one call of the model server with the same picture.

    python -m benchmarks.search [FOLDER…] [--limit 12000]
"""

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.system import RunningSystem, running_system
from shared.clients import model_connector
from shared.folders import walk
from shared.images import decode
from shared.index.generations import Generation
from shared.state import connect
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore

_SEARCHES = 200
_COLLECTION = "default"


def main() -> None:
    """Ingest, search, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of images, not random pictures")
    parser.add_argument("--limit", type=int, default=12_000, help="number of images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch, running_system() as system:
        chosen = Path(scratch) / "chosen"
        chosen.mkdir()
        if options.folders:
            files = [source.path for source in walk(options.folders, labels_from_folders=False)][: options.limit]
            for number, path in enumerate(files):
                (chosen / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
        else:
            _draw(chosen, options.limit)
        summary = system.artseek("ingest", str(chosen))
        print(f"{summary['added']} images at {summary['images_per_second']:.1f}/s")
        _measure(system, sorted(chosen.iterdir()))


def _draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg", quality=85)


def _measure(system: RunningSystem, files: list[Path]) -> None:
    address = f"{system.url}/api/v1/collections/{_COLLECTION}"
    page = json.loads(_get(f"{address}/images?limit={_SEARCHES}"))
    ids = [image["id"] for image in page["images"]]
    settings = system.settings
    size = json.loads(_get(address))["images"]
    vectors = np.random.default_rng(0).standard_normal((size, 1280), dtype=np.float32)

    for mode in ("exact", "lsh"):
        answers: list[dict[str, float]] = []

        def by_id(number: int, mode: str = mode, answers: list[dict[str, float]] = answers) -> None:
            body = json.dumps({"id": ids[number % len(ids)], "k": 10, "mode": mode}).encode()
            answer = json.loads(_post(f"{address}/search", body, "application/json"))
            answers.append({**answer["timings_ms"], "candidates": answer["candidates"]})

        median = _median_ms(by_id)
        stages = {name: statistics.median(answer.get(name, 0.0) for answer in answers) for name in answers[0]}
        shown = ", ".join(f"{name} {value:.1f}" for name, value in stages.items())
        print(f"search by id, {mode}: {median:.1f} ms  ({shown})")
    product = _median_ms(lambda number: vectors @ vectors[number])
    print(f"one product of {size} vectors with a query in this process: {product:.1f} ms")

    with model_connector(settings)(settings.model, None) as serving:
        input_size = serving.signature().input_size
        pictures = [path.read_bytes() for path in files[:_SEARCHES]]
        pixels = [decode(data, size=input_size)[0][np.newaxis] for data in pictures]
        # Taken in turns, so that both see the same machine.
        calls, searches = [], []
        for number, data in enumerate(pictures):
            calls.append(_ms(lambda number=number: serving.embed(pixels[number])))  # type: ignore[misc]
            searches.append(_ms(lambda data=data: _post(f"{address}/search", data, "image/jpeg")))  # type: ignore[misc]
    call, search = statistics.median(calls), statistics.median(searches)
    print(f"search by file: {search:.1f} ms, one model call: {call:.1f} ms, difference {search - call:.1f} ms")
    _memory(system, size)


def _memory(system: RunningSystem, images: int) -> None:
    largest: defaultdict[str, float] = defaultdict(float)
    for process in psutil.Process(system.pid).children(recursive=True):
        command = " ".join(process.cmdline())
        for name in (
            "embedder",
            "indexer",
            "maintenance",
            "services.query",
            "services.web",
            "model_server",
            "weed",
            "valkey-server",
        ):
            if name in command:
                largest[name] = max(largest[name], process.memory_info().rss / 2**20)
    print("largest process, MB: " + ", ".join(f"{name} {size:.0f}" for name, size in largest.items()))
    settings = system.settings
    catalog = Catalog(ObjectStore.from_settings(settings))
    manifest, current = catalog.get(_COLLECTION), catalog.current_index(_COLLECTION)
    if current is not None:
        tables = Generation.load(catalog.store, manifest, current.generation).family.tables
        used = connect(settings.index_url.get_secret_value()).info("memory")["used_memory"]
        share = used / images / tables
        print(f"index: {share:.1f} bytes per image and table ({tables} tables; all of the server's memory counted)")


def _median_ms(call: Callable[[int], object]) -> float:
    for number in range(10):
        call(number)
    return statistics.median(_ms(lambda number=number: call(number)) for number in range(_SEARCHES))  # type: ignore[misc]


def _ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 -- our own address
        return bytes(answer.read())


def _post(url: str, body: bytes, media_type: str) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": media_type})  # noqa: S310 -- our own address
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())


if __name__ == "__main__":
    main()
