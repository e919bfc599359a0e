"""What a search costs over HTTP, and what the system costs in memory, on a collection of some thousand images.

Times are shown beside what they are made of, measured in the same run: a search by id beside one product of the same
vectors with a query in this process, a search by file beside one call of the model server with the same picture.

    python -m benchmarks.search [FOLDER…] [--limit 12000]
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from benchmarks.interleaving import Call, medians_in_turns
from benchmarks.search_layers import post_search
from benchmarks.system import RunningSystem, running_system
from shared.clients import model_connector
from shared.folders import walk
from shared.images import decode
from shared.index.generations import Generation
from shared.rpc.query import MODES, Mode, QueryClient, SearchRequest
from shared.rpc.query.connecting import connect_query
from shared.schemas.urls import API
from shared.state import connect
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore

_SEARCHES = 200
_COLLECTION = "default"
_MODES: tuple[Mode, ...] = ("exact", "lsh")
_STAGES = ("probe", "fetch", "rank", "total")


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

    page_of = http.client.HTTPConnection(urlsplit(system.url).netloc, timeout=60)
    with connect_query(settings) as client:
        for mode in _MODES:
            _searches_by_id(page_of, client, ids, mode)
    _pages(page_of, ids)
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


def _searches_by_id(page: http.client.HTTPConnection, client: QueryClient, ids: Sequence[int], mode: Mode) -> None:
    """Print what a search takes on a kept connection, beside the same search by gRPC."""

    def asked(number: int) -> int:
        return ids[number % len(ids)]

    calls: dict[str, Call] = {
        "HTTP": lambda number: post_search(page, _COLLECTION, asked(number), mode),
        "gRPC": lambda number: client.search(
            SearchRequest(collection=_COLLECTION, id=asked(number), k=10, mode=MODES[mode])
        ),
    }
    times = medians_in_turns(calls, repetitions=10, each=_SEARCHES // 10)
    by_http, by_grpc = (1e3 * statistics.median(times[name]) for name in calls)
    answers = [json.loads(post_search(page, _COLLECTION, image, mode)) for image in ids[:50]]
    stages = {name: statistics.median(answer["timings_ms"].get(name, 0.0) for answer in answers) for name in _STAGES}
    candidates = statistics.median(answer["candidates"] for answer in answers)
    shown = ", ".join(f"{name} {value:.1f}" for name, value in stages.items())
    print(
        f"search by id, {mode}: HTTP {by_http:.2f} ms, query service {by_grpc:.2f} ms, "
        f"difference {by_http - by_grpc:.2f} ms  ({shown}; {candidates:g} candidates)"
    )


def _pages(page: http.client.HTTPConnection, ids: Sequence[int]) -> None:
    """Print what the page and its thumbnails take on a kept connection."""
    thumbnails = [f"{API}/collections/{_COLLECTION}/images/{image}/thumbnail" for image in ids]
    tags = [_fetch(page, path) for path in thumbnails[:1]]
    made = statistics.median(_ms(lambda path=path: _fetch(page, path)) for path in thumbnails[1:])  # type: ignore[misc]
    kept = _median_ms(lambda number: _fetch(page, thumbnails[number % len(ids)]))
    unchanged = _median_ms(lambda _: _fetch(page, thumbnails[0], {"If-None-Match": tags[0]}))
    print(f"thumbnail: made {made:.1f} ms, kept {kept:.1f} ms, unchanged {unchanged:.1f} ms")
    shown = {"search page": "/", "results": f"/results?collection={_COLLECTION}&id={ids[0]}"}
    for name, path in shown.items():
        print(f"{name}: {_median_ms(lambda _, path=path: _fetch(page, path)):.1f} ms")  # type: ignore[misc]


def _fetch(page: http.client.HTTPConnection, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> str:
    """Fetch what is at a path over a kept connection; returns its ETag.

    Raises:
        RuntimeError: It is not there.
    """
    page.request("GET", path, headers=dict(headers))
    answer = page.getresponse()
    answer.read()
    if answer.status not in {200, 304}:
        raise RuntimeError(f"{path} is answered with {answer.status}")
    return answer.headers.get("ETag", "")


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
