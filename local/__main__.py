"""``python -m local``: the whole system on this machine, in the foreground until Ctrl-C."""

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

from local.child_processes import Children, NotReady, tethered
from local.ports import PortTaken
from local.system import DataFolder, LocalSystem
from shared.errors import ArtseekError
from shared.images import ImageRefused, decode
from shared.stopping import StopSignal

_log = logging.getLogger("artseek")


def main() -> int:
    """Start everything, say where the page is, wait; returns the exit status."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    stop = StopSignal()
    try:
        return _run(options, stop)
    except (NotReady, PortTaken, ArtseekError, OSError) as error:
        _log.error("artseek: %s", error)
        return 1


def _run(options: argparse.Namespace, stop: StopSignal) -> int:
    folder = DataFolder(options.data)
    models = (options.models or folder.path / "models").resolve()
    system = LocalSystem(folder, host=options.host, port=options.port, models=models)
    _log.info("Data folder: %s", options.data)
    with Children(folder.path / "logs", stop) as children:
        status = _build_model(models, stop)
        if stop.requested:
            return 0
        if status:
            return 1
        children.start(system.stores())
        children.start(system.services())
        if stop.requested:
            return 0
        if options.demo:
            status = _demo(options, system, stop)
            if status and not stop.requested:
                return 1
        if not stop.requested:
            _say(f"\nArtseek is ready: {system.address}\nPress Ctrl-C to stop.")
        stop.wait()
        _say("\nStopping …")
    _say("Stopped. The data stays in the folder above.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="artseek up", description="Run the whole system on this machine.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ARTSEEK_DATA") or "data"), metavar="DIR")
    parser.add_argument("--host", default="127.0.0.1", help="address the page listens at (all else: loopback only)")
    parser.add_argument("--port", type=int, default=8080, help="port of the page")
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of the exported models  [default: DATA/models]"
    )
    parser.add_argument("--demo", action="store_true", help="ingest a collection and show a search first")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="your own pictures for --demo")
    options = parser.parse_args()
    if not 1 <= options.port <= 65535:
        parser.error(f"--port {options.port}: expected 1 to 65535")
    if options.images is not None and not options.images.is_dir():
        parser.error(f"--images {options.images}: no such folder")
    return options


def _build_model(models: Path, stop: StopSignal) -> int:
    """Export the default model unless it was exported before; returns the exit status."""
    return _command(["-m", "training.export", "--out", str(models), "--base-path", str(models)], stop)


def _demo(options: argparse.Namespace, system: LocalSystem, stop: StopSignal) -> int:
    """Ingest the user's pictures or the sample gallery, and search for one of them."""
    images = options.images
    if images is None:
        images = system.folder.path / "sample-gallery"
        status = _command(["-m", "local.demo.sample_gallery", str(images)], stop)
        if status:
            return status
    status = _command(["-m", "cli", "ingest", str(images), "--labels-from-folders"], stop)
    if status not in {0, 3}:  # 3: some files were rejected, and reported
        return status
    sample = next((path for path in sorted(images.rglob("*")) if _is_image(path)), None)
    if sample is None:
        return 0
    _say(f"\nThe works most similar to {sample.relative_to(images)}:")
    return _command(["-m", "cli", "search", str(sample), "-k", "5"], stop)


def _is_image(path: Path) -> bool:
    """Return whether a file was taken: the first of a folder may be one of those that were not."""
    try:
        return path.is_file() and bool(decode(path.read_bytes(), size=32))
    except (ImageRefused, OSError):
        return False


def _command(arguments: list[str], stop: StopSignal) -> int:
    """Run a command of ours on this terminal; a stop ends it."""
    process = subprocess.Popen(tethered([sys.executable, *arguments]), start_new_session=True)
    while True:
        try:
            return process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if stop.requested:
                process.terminate()
                try:
                    return process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return process.wait()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
