"""``python -m benchmarks.chaos --minutes N --seed S``: exit status 1 if something was lost, or answered wrongly."""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos import machine
from benchmarks.chaos.client import Client, Lost
from benchmarks.chaos.clocks import Clocks
from benchmarks.chaos.disturbances import Disturber
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.model import Model
from benchmarks.chaos.model_versions import copy_models
from benchmarks.chaos.operations import act
from benchmarks.chaos.run import Run
from benchmarks.chaos.searchers import search
from benchmarks.chaos.settling import settle
from benchmarks.chaos.summary import print_summary, traces
from benchmarks.chaos.times import Absences
from benchmarks.system import export_models, system_on

_ACTORS, _SEARCHERS = 4, 2
_BUSY = 10  # times as long as asked for, until a first search is answered
# A worker's silence is noticed soon, so that a short run sees it.
# Its disk is small, and a full one is a disturbance: uploads are not to be refused before.
_ENVIRONMENT = {"ARTSEEK_VISIBILITY_TIMEOUT": "15", "ARTSEEK_LEAST_FREE_BYTES": str(8 * 2**20)}


def main() -> int:
    """Run chaos on a system of its own; returns the exit status."""
    options = _options()
    export_models()  # before there is no network
    machine.enter_namespaces(["-m", "benchmarks.chaos", *sys.argv[1:]])
    if machine.has_own_network():
        machine.set_network(up=True)
    journal = Journal(verbose=options.verbose)
    with tempfile.TemporaryDirectory(prefix="artseek-chaos-") as folder:
        data, scratch, models = (Path(folder) / name for name in ("data", "scratch", "models"))
        data.mkdir()
        scratch.mkdir()
        copy_models(models)
        has_disk = machine.mount_small_disk(data)
        try:
            clocks = Clocks(Path(folder) / "clock-offset")
            environment = {**_ENVIRONMENT, **clocks.environment}
            with system_on(data, models=models, environment=environment) as system:
                absences = Absences()
                client = Client(system.url, journal, absences)
                run = Run(system, options.seed, scratch, client, Model(options.seed), journal, absences)
                try:
                    _chaos(run, options.minutes * 60.0, options.longest_stop, has_disk=has_disk, clocks=clocks)
                finally:
                    run.over.set()
                found = traces(data / "logs")
                if options.logs:
                    _keep_logs(data, options.logs)
        finally:
            machine.unmount(data)
    failed = bool(journal.violations)
    if options.json:
        events = journal.events() if failed else []
        summary = {"seed": options.seed, "ok": not failed, **journal.to_json(), "traces": found, "events": events}
        print(json.dumps(summary))
    else:
        print_summary(journal, run.model, found, seed=options.seed)
    return int(failed)


def _chaos(run: Run, seconds: float, longest_stop_s: float, *, has_disk: bool, clocks: Clocks) -> None:
    """Work, search and disturb for a time, on a busy machine for longer, then compare."""
    disturber = Disturber(run, longest_s=longest_stop_s, has_disk=has_disk, clocks=clocks)
    threads = [_thread(run, f"actor {number}", act, number) for number in range(_ACTORS)]
    threads += [_thread(run, f"searcher {number}", search, number) for number in range(_SEARCHERS)]
    threads.append(_thread(run, "disturber", lambda _run, _number: disturber.disturb(), 0))
    end = time.monotonic() + _BUSY * seconds
    run.over.wait(seconds)
    while not run.journal.has_answers and time.monotonic() < end and not run.over.wait(1.0):
        pass
    run.over.set()
    run.journal.note("all disturbances end")
    for thread in threads:
        thread.join()
    try:
        settle(run)
    except Lost as lost:
        run.journal.violation(f"at rest, a request was answered with {lost}")


def _thread(run: Run, name: str, work: Callable[[Run, int], None], number: int) -> threading.Thread:
    """Start a thread; an error that it does not expect is a violation, and ends the run."""

    def guarded() -> None:
        try:
            work(run, number)
        except Exception as error:
            run.journal.violation(f"{name} ended: {error!r}")
            run.over.set()

    thread = threading.Thread(target=guarded, name=name)
    thread.start()
    return thread


def _keep_logs(data: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in [data / "local.log", *(data / "logs").iterdir()]:
        (folder / log.name).write_bytes(log.read_bytes())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to work and disturb  [default: 5]")
    parser.add_argument("--seed", type=int, default=None, help="what all choices follow from  [default: any]")
    parser.add_argument(
        "--longest-stop",
        type=float,
        default=40.0,
        metavar="S",
        help="seconds a process is stopped at most  [40]",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--verbose", action="store_true", help="print each event")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the system's logs here")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
        sys.argv += ["--seed", str(options.seed)]
    return options


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
