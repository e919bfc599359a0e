"""End-to-end ingestion against a bare loop of the same SavedModel over the same files, on the same cores.

The bare loop is what one would write in an afternoon: read a file, decode it, 32 of them into the model, next. It runs
once before and once after the ingestion, in a process of its own, while the system stands idle; the mean of the two is
what the ingestion is compared with, so that a machine that slows down in between does not flatter or blame anybody.

It also prints how much processor time each part of the system took for an image: the profile of an ingestion.

    python -m benchmarks.ingest [FOLDER] [--limit 2000]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from benchmarks.system import MODELS, running_system
from local.demo import sample_gallery
from shared.folders import walk
from shared.images import ImageRefused
from shared.images.sniffing import sniff
from shared.tensorflow_runtime import import_quietly

_BATCH = 32
_FIRST = 64  # images that are added before and not counted: the bare loop does not count the model's first call either
_HEAD = 4096  # bytes that tell what a file is
_MODEL = MODELS / "efficientnet-lite0" / "1"


def main() -> None:
    """Print both rates and their ratio; with ``--bare`` only the bare loop's, for the process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of images, not a sample gallery")
    parser.add_argument("--limit", type=int, default=2000, help="number of images")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(_bare_loop(files_of(options.folder, options.limit)))
        return
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch:
        folder = options.folder or Path(scratch) / "gallery"
        if options.folder is None:
            sample_gallery.render(folder, works=min(_FIRST + options.limit, 600))
        files = files_of(folder, _FIRST + options.limit)
        first = linked(files[:_FIRST], Path(scratch) / "first")
        files = files[_FIRST:]
        chosen = linked(files, Path(scratch) / "chosen")
        with running_system() as system:
            system.artseek("ingest", str(first))
            before = bare_loop_rate(chosen, options.limit)
            times, own = system.processor_seconds(), _of_commands()
            summary = system.artseek("ingest", str(chosen))
            profile = {part: spent - times.get(part, 0.0) for part, spent in system.processor_seconds().items()}
            profile["artseek ingest"] = _of_commands() - own
            after = bare_loop_rate(chosen, options.limit)
    bare = (before + after) / 2
    rate = summary["images_per_second"]
    counts = f"{summary['added']} added, {summary['duplicates']} duplicates, {len(summary['rejected'])} rejected"
    print(f"{len(files)} files: {counts}")
    print(f"bare loop  {bare:6.1f} images/s  (before {before:.1f}, after {after:.1f})")
    print(f"ingestion  {rate:6.1f} images/s")
    print(f"ratio      {rate / bare:6.2f}")
    print("processor time, ms an image:")
    for part, spent in sorted(profile.items(), key=lambda item: -item[1]):
        print(f"  {1e3 * spent / len(files):6.2f}  {part}")


def linked(files: list[Path], folder: Path) -> Path:
    """Return a folder with links to files."""
    folder.mkdir()
    for number, path in enumerate(files):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
    return folder


def _of_commands() -> float:
    """Return the processor time of the commands that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def files_of(folder: Path, limit: int) -> list[Path]:
    """Return the first image files of a folder."""
    paths = (source.path for source in walk([folder], labels_from_folders=False))
    return list(islice(filter(_is_image, paths), limit))


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        sniff(head)
    except ImageRefused:
        return False
    return True


def bare_loop_rate(folder: Path, limit: int) -> float:
    """Return the images a second of the bare loop over the files of a folder, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest", str(folder), "--limit", str(limit), "--bare"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _bare_loop(files: list[Path]) -> float:
    """Return the images per second of the bare loop, the model's loading and first call not counted."""
    import numpy as np  # noqa: PLC0415 -- only the process of its own pays for TensorFlow
    from PIL import Image  # noqa: PLC0415

    tf = import_quietly("tensorflow")
    embed = tf.saved_model.load(str(_MODEL)).signatures["serving_default"]
    size = embed.structured_input_signature[1]["images"].shape[1]
    embed(images=tf.zeros([_BATCH, size, size, 3], tf.uint8))

    def pixels(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        image = Image.open(path).convert("RGB")
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
        return np.asarray(image)

    started = time.perf_counter()
    for start in range(0, len(files), _BATCH):
        batch = np.stack([pixels(path) for path in files[start : start + _BATCH]])
        embed(images=tf.constant(batch))["embeddings"].numpy()
    return len(files) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
