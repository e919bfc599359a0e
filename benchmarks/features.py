"""The vectors of real images: embedded by the model server with the default model, and kept for the next run."""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.servers import Servers
from benchmarks.simulation import Vectors
from benchmarks.system import MODELS, export_models
from local.demo import sample_gallery
from shared.folders import walk
from shared.images import ImageRefused, decode
from shared.rpc.serving import ServingClient
from shared.rpc.tls import grpc_tls

_log = logging.getLogger(__name__)

_BATCH = 32
_WORKERS = 4  # batches under way, so that decoding and the model overlap


def sample_pictures(folder: Path, count: int) -> Path:
    """Make a gallery of sample works, unless it is there, and return its folder."""
    target = folder / f"works-{count}"
    sample_gallery.render(target, works=count)
    return target


def features(folders: Sequence[Path], cache: Path, scratch: Path) -> Vectors:
    """Return the embeddings of the images in folders, float32 [n, dim], in the order of their paths.

    Files that are no images are passed over.

    Args:
        folders: Searched with all their subfolders.
        cache: Folder in which embeddings are kept, by the files' names and sizes and by the model.
        scratch: Folder of the servers that are run for it, empty or of an earlier call.
    """
    files = sorted(source.path for source in walk(folders, labels_from_folders=False))
    export_models()
    inputs = "\n".join(f"{path} {path.stat().st_size}" for path in (*files, *sorted(MODELS.rglob("artseek.json"))))
    kept = cache / f"features-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.npy"
    if not kept.exists():
        vectors = _embed(files, scratch)
        cache.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part.npy")
        np.save(part, vectors)
        part.replace(kept)
    return np.asarray(np.load(kept))


def _embed(files: Sequence[Path], scratch: Path) -> Vectors:
    with Servers(scratch, models=MODELS) as servers:
        servers.start("model-server")
        settings = servers.settings
        with ServingClient(settings.serving_target, settings.model, timeout_s=300.0, tls=grpc_tls(settings)) as serving:
            size = serving.signature().input_size

            def batch(start: int) -> Vectors:
                pixels = []
                for path in files[start : start + _BATCH]:
                    try:
                        pixels.append(decode(path.read_bytes(), size=size)[0])
                    except ImageRefused as error:
                        _log.warning("%s is skipped: %s", path, error)
                if not pixels:
                    return np.empty((0, serving.signature().dim), dtype=np.float32)
                return serving.embed(np.stack(pixels))

            with ThreadPoolExecutor(_WORKERS) as pool:
                return np.concatenate(list(pool.map(batch, range(0, len(files), _BATCH))))
