"""How often a detail finds its picture, with and without an index of regions and with proof, and what that index costs.

    python -m benchmarks.regions FOLDER... [--images 500] [--crops 120] [--collection NAME]

It needs a running system (`ARTSEEK_DATA`). It adds a collection with pictures of the folders, has its regions indexed,
and removes it at the end; `--collection` names one that has the pictures and the index already, which stays. Details
have the shape of their picture, and lie anywhere in it. The neighbours of whole images are counted by their labels, if
subfolders give them.
"""

import argparse
import io
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

import numpy as np
from PIL import Image

from cli.local_proof import local_prover
from shared.folders import walk
from shared.index.proving import Prover
from shared.records.editing import all_images
from shared.rpc.query import QueryClient, SearchOptions
from shared.rpc.query.connecting import connect_query
from shared.settings import Settings, load_settings
from shared.state import connect
from shared.storage import layout
from shared.storage.catalog import Catalog
from shared.storage.object_store import ObjectStore

_SHARES: Final = (0.5, 0.25, 0.12, 0.06)  # of the picture's area
_K: Final = 10


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--crops", type=int, default=120)
    parser.add_argument("--collection")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings, chance = load_settings(), np.random.default_rng(options.seed)
    sources = list(walk(options.folders, labels_from_folders=True))
    chosen = [sources[place] for place in np.sort(chance.permutation(len(sources))[: options.images])]
    figures: dict[str, Any] = {}
    with connect_query(settings) as query, local_prover(settings, query) as prover:
        if options.collection:
            details, whole = _measured(
                query, prover, options.collection, [source.path for source in sources], options.crops
            )
        else:
            labelled = [(source.path, source.label or "") for source in chosen]
            with _collection(settings, labelled) as (name, figures["costs"]):
                details, whole = _measured(query, prover, name, [source.path for source in chosen], options.crops)
    sys.stdout.write(json.dumps({**figures, "details": details, "whole": whole}, indent=2) + "\n")


def _measured(
    query: QueryClient, prover: Prover, name: str, files: Sequence[Path], crops: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    return _details(query, prover, name, files, crops), _whole(query, name, crops)


@contextmanager
def _collection(settings: Settings, files: Sequence[tuple[Path, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Add a collection and have its regions indexed; gives its name and what the index of regions cost."""
    name = f"bench-{secrets.token_hex(4)}"
    redis = connect(settings.index_url.get_secret_value())
    with tempfile.TemporaryDirectory() as folder:
        for number, (path, label) in enumerate(files):
            (Path(folder) / label).mkdir(exist_ok=True)
            (Path(folder) / label / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
        _artseek("ingest", folder, "--collection", name, "--labels-from-folders")
    try:
        before, began = redis.info("memory")["used_memory"], time.perf_counter()
        done = _artseek("regions", "on", "--collection", name, "--yes")
        seconds = time.perf_counter() - began
        catalog = Catalog(ObjectStore.from_settings(settings))
        sizes = catalog.segment_sizes(catalog.get(layout.regions_of(name)).name)
        yield (
            name,
            {
                "images": done["images"],
                "windows": done["windows"],
                "windows_per_second": round(done["windows"] / seconds, 1),
                "store_bytes_per_window": round(sum(sizes.values()) / done["windows"]),
                "redis_bytes_per_window": round((redis.info("memory")["used_memory"] - before) / done["windows"]),
            },
        )
    finally:
        _artseek("collections", "delete", name, "--yes")


def _details(
    query: QueryClient, prover: Prover, name: str, files: Sequence[Path], crops: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return by the share of the area, and by how is searched, how often a detail finds its picture, and the time."""
    chance = np.random.default_rng(1)
    places = chance.permutation(len(files))[:crops]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for share in _SHARES:
        measured: dict[str, list[tuple[int, float]]] = {"whole images": [], "regions": [], "regions, proof": []}
        for place in places.tolist():
            data = files[place].read_bytes()
            wanted, detail = layout.image_id(layout.digest_of(data)), _detail(data, share, chance)
            for how, answers in measured.items():
                answers.append(_rank_of(wanted, detail, query, prover, name, how))
        found[f"{share:.0%}"] = {
            how: {
                "first": round(mean(rank == 0 for rank, _ in answers), 3),
                f"among {_K}": round(mean(rank < _K for rank, _ in answers), 3),
                "ms": round(median(milliseconds for _, milliseconds in answers), 1),
            }
            for how, answers in measured.items()
        }
    return found


def _rank_of(wanted: int, detail: bytes, query: QueryClient, prover: Prover, name: str, how: str) -> tuple[int, float]:
    """Return how many hits come before the picture, `_K` if it is none, and the milliseconds."""
    options = SearchOptions(k=_K, regions=how != "whole images")
    request = options.to_request(name)
    request.image = detail
    began = time.perf_counter()
    answer = query.search(request)
    if how.endswith("proof"):
        prover.prove(answer, options, collection=name, image=detail)
    milliseconds = 1000 * (time.perf_counter() - began)
    ids = [hit.image.id for hit in answer.hits]
    return (ids.index(wanted) if wanted in ids else _K), milliseconds


def _whole(query: QueryClient, name: str, queries: int) -> dict[str, float]:
    """Return the share of an image's nearest that have its label, with regions and without."""
    labelled = [image for image in all_images(query, name, records=False) if image.label]
    chosen = np.random.default_rng(2).permutation(len(labelled))[: 2 * queries].tolist()
    found: dict[str, list[float]] = {"whole images": [], "regions": []}
    for image in (labelled[place] for place in chosen):
        for how, shares in found.items():
            request = SearchOptions(k=_K + 1, regions=how == "regions").to_request(name)
            request.id = image.id
            others = [hit.image for hit in query.search(request).hits if hit.image.id != image.id][:_K]
            shares.append(mean(other.label == image.label for other in others))
    return {how: round(mean(shares), 4) for how, shares in found.items() if shares}


def _detail(data: bytes, share: float, chance: np.random.Generator) -> bytes:
    """Return a part of a picture as a PNG file."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    width, height = (max(8, round(side * share**0.5)) for side in picture.size)
    left, top = int(chance.integers(picture.width - width + 1)), int(chance.integers(picture.height - height + 1))
    file = io.BytesIO()
    picture.crop((left, top, left + width, top + height)).save(file, "PNG")
    return file.getvalue()


def _artseek(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli", *arguments, "--json"]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


if __name__ == "__main__":
    main()
