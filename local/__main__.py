"""``python -m local``: the whole system on this machine, in the foreground until Ctrl-C."""

import argparse
import logging
import os
import sys
from pathlib import Path

from local.child_processes import Children, NotReady
from local.commands import run_command, say
from local.data_folder import DataFolder, usable_folder
from local.demo.demo import show
from local.ports import PortTaken
from local.purge_follower import PurgeFollower
from local.system import LocalSystem
from shared.access.starting import ensure_way_in
from shared.errors import ArtseekError
from shared.state import State, connect
from shared.stopping import StopSignal
from shared.system_identity import check_own_system

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
    models = usable_folder(options.models or folder.path / "models")
    system = LocalSystem(folder, host=options.host, port=options.port, models=models, insecure=options.insecure)
    _log.info("Data folder: %s", options.data)
    with Children(folder.path / "logs", stop) as children:
        status = _export_model(models, stop)
        if stop.requested:
            return 0
        if status:
            return 1
        children.start(system.backing_servers())
        if not stop.requested:
            check_own_system(system.settings, system.settings.broker_url)
            ensure_way_in(system.settings)
        children.start(system.services())
        if stop.requested:
            return 0
        if options.demo:
            status = show(system, options.images, stop)
            if status and not stop.requested:
                return 1
        purges = PurgeFollower(State.of(connect(system.settings.index_url.get_secret_value())), system.store_vacuum())
        purges.start()
        if not stop.requested:
            say(f"\nArtseek is ready: {system.settings.public_url or system.address}\nPress Ctrl-C to stop.")
        stop.wait()
        purges.stop()
        say("\nStopping …")
    say("Stopped. The data stays in the folder above.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="artseek up", description="Run the whole system on this machine.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ARTSEEK_DATA") or "data"), metavar="DIR")
    parser.add_argument("--host", default="127.0.0.1", help="address the page listens at (all else: loopback only)")
    parser.add_argument("--port", type=int, default=8080, help="port of the page")
    parser.add_argument(
        "--insecure", action="store_true", help="let everybody who reaches the page do everything, without a log-in"
    )
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


def _export_model(models: Path, stop: StopSignal) -> int:
    """Export the default model unless it was exported before; returns the exit status."""
    return run_command(["-m", "training.export", "--out", str(models), "--base-path", str(models)], stop)


if __name__ == "__main__":
    sys.exit(main())
