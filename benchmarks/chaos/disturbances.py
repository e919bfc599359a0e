"""Disturbances: processes that die or stop, servers that forget, a network that is cut, a disk that is full."""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from benchmarks.chaos import machine
from benchmarks.chaos.clocks import Clocks
from benchmarks.chaos.run import Run
from benchmarks.chaos.servers import TARGETS, Servers, part_of, send, wait_until_dead
from shared.errors import NotFound

_LONGEST_STOP_S = 40.0
_LONGEST_CUT_S = 10.0
_LOST_OF_LOG_S = (2.0, 8.0)  # what a Valkey forgets whose log is cut
_SHIFT_S = (30, 800)  # the object store refuses requests that are signed more than a quarter of an hour off
_WEB_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Disturbance:
    """One kind of disturbance of one thing: `run` does it, and returns when it is over."""

    name: str
    run: Callable[[random.Random], None]


class Disturber:
    """Disturbs the system until the run is over: in an order that the seed chooses, each thing in turn.

    Args:
        run: The run.
        longest_s: How long a process is stopped at most.
        has_disk: Whether the data folder is a small disk of our own.
        clocks: The clocks of the system's processes.
    """

    def __init__(self, run: Run, *, longest_s: float, has_disk: bool, clocks: Clocks) -> None:
        self._run, self._has_disk, self._clocks = run, has_disk, clocks
        self._longest_s = min(longest_s, _LONGEST_STOP_S)
        self._servers = Servers(run.system.pid)
        self._threads: list[threading.Thread] = []
        self._whole = threading.Lock()  # of disturbances that must not meet: cut network, full disk, cut log

    def disturb(self) -> None:
        """Begin disturbances until the run is over, then wait until all have ended."""
        choice = random.Random(f"{self._run.seed} disturber")  # noqa: S311 -- choices, no secrets
        every = self._every()
        while not self._run.over.is_set():
            for disturbance in choice.sample(every, len(every)):
                if self._run.over.wait(choice.uniform(0.1, 0.6) * self._longest_s):
                    break
                own = random.Random(f"{self._run.seed} {disturbance.name} {len(self._threads)}")  # noqa: S311
                thread = threading.Thread(target=self._do, args=(disturbance, own), name=disturbance.name)
                self._threads.append(thread)
                thread.start()
        for thread in self._threads:
            thread.join()

    def _do(self, disturbance: Disturbance, choice: random.Random) -> None:
        try:
            disturbance.run(choice)
        except (psutil.Error, redis.RedisError, OSError, NotFound) as error:
            self._run.journal.note(f"{disturbance.name} did not come about: {error}")

    def _every(self) -> list[Disturbance]:
        """Return what this machine allows; the rest is skipped by name."""
        every = [Disturbance(f"kill {target}", self._killer(target)) for target in TARGETS]
        every += [Disturbance(f"stop {target}", self._stopper(target)) for target in TARGETS]
        every += [Disturbance(f"empty valkey-{name}", self._emptier(name)) for name in ("index", "broker")]
        every.append(Disturbance("cut the log of valkey-index", self._cut_log))
        journal = self._run.journal
        if machine.has_own_network():
            every.append(Disturbance("cut the network", self._cut_network))
        else:
            journal.skip("cut the network", "no network namespace of our own")
        if self._has_disk:
            every.append(Disturbance("fill the disk", self._fill_disk))
        else:
            journal.skip("fill the disk", "no mount namespace of our own")
        every.append(Disturbance("shift the clocks", self._shift_clocks))
        return every

    def _killer(self, target: str) -> Callable[[random.Random], None]:
        def kill(choice: random.Random) -> None:
            with self._absent(target):
                process = choice.choice(self._servers.find(target))
                self._run.journal.disturbance(f"kill {target}", f"{process.pid}")
                send([process], signal.SIGKILL)

        return kill

    def _stopper(self, target: str) -> Callable[[random.Random], None]:
        def stop(choice: random.Random) -> None:
            seconds = choice.uniform(1.0, self._longest_s)
            with self._absent(target):
                processes = self._servers.find(target) if target.endswith("child") else self._servers.tree(target)
                if target == "query child":  # the others answer meanwhile
                    processes = [choice.choice(processes)]
                self._run.journal.disturbance(f"stop {target}", f"for {seconds:.1f} s")
                send(processes, signal.SIGSTOP)
                time.sleep(seconds)
                send(processes, signal.SIGCONT)
                self._run.journal.note(f"{target} goes on")

        return stop

    def _emptier(self, name: str) -> Callable[[random.Random], None]:
        def empty(_: random.Random) -> None:
            with self._absent(f"valkey-{name}"):
                self._run.journal.disturbance(f"empty valkey-{name}")
                self._client(name).flushall()

        return empty

    def _cut_log(self, choice: random.Random) -> None:
        """Have the index come back as it was some seconds ago, as after a disk that lost its last writes."""
        seconds = choice.uniform(*_LOST_OF_LOG_S)
        with self._whole:
            log = self._log()
            moment, size = time.monotonic(), log.stat().st_size
            time.sleep(seconds)
            if self._log() != log or self._run.over.is_set():
                return  # it was written anew meanwhile
            with self._absent("valkey-index"):
                with self._servers.not_started_again():
                    processes = self._servers.find("valkey-index")
                    send(processes, signal.SIGKILL)
                    wait_until_dead(processes)  # or it would go on writing behind the cut
                    lost = log.stat().st_size - size
                    if lost > 0:  # a start after a crash may have cut off more
                        os.truncate(log, size)
                    doubted = self._run.model.doubt_since(moment)
                self._run.journal.disturbance(
                    "cut the log of valkey-index", f"by {lost} bytes, {seconds:.1f} s; {doubted} images are in doubt"
                )

    def _log(self) -> Path:
        folder = self._run.system.data / "valkey-index" / "appendonlydir"
        return max(folder.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))

    def _cut_network(self, choice: random.Random) -> None:
        seconds = choice.uniform(1.0, min(_LONGEST_CUT_S, self._longest_s))
        with self._whole, self._absent("network", "web"):
            self._run.journal.disturbance("cut the network", f"for {seconds:.1f} s")
            machine.set_network(up=False)
            try:
                time.sleep(seconds)
            finally:
                machine.set_network(up=True)
            self._run.journal.note("the network is back")

    def _fill_disk(self, choice: random.Random) -> None:
        seconds = choice.uniform(1.0, self._longest_s)
        data = self._run.system.data
        ballast = data / "ballast"
        with self._whole, self._absent("disk"):
            self._run.journal.disturbance("fill the disk", f"for {seconds:.1f} s")
            try:
                _fill(ballast, shutil.disk_usage(data).free)
                time.sleep(seconds)
            finally:
                ballast.unlink(missing_ok=True)
            self._run.journal.note("the disk has space again")

    def _shift_clocks(self, choice: random.Random) -> None:
        """Have the services' clocks be wrong for a while, and right again: twice a jump, once back in time."""
        shift, seconds = choice.choice((-1, 1)) * choice.randint(*_SHIFT_S), choice.uniform(1.0, self._longest_s)
        self._run.journal.disturbance("shift the clocks", f"by {shift:+d} s, for {seconds:.1f} s")
        self._clocks.shift(shift)
        try:
            self._run.over.wait(seconds)
        finally:
            self._clocks.shift(0)
        self._run.journal.note("the clocks are right again")

    def _absent(self, *targets: str) -> "_Absence":
        return _Absence(self._run, [part_of(target) for target in targets])

    def _client(self, name: str) -> "redis.Redis":
        settings = self._run.system.settings
        url = settings.index_url if name == "index" else settings.broker_url
        return redis.Redis.from_url(url.get_secret_value(), socket_timeout=5.0)


class _Absence:
    """Notes that parts are disturbed; a web service is excused until it answers again."""

    def __init__(self, run: Run, parts: list[str]) -> None:
        self._run, self._parts = run, parts

    def __enter__(self) -> None:
        self._run.absences.begin(*self._parts)

    def __exit__(self, *_: object) -> None:
        if "web" in self._parts:
            self._run.system.wait_until_alive(_WEB_PATIENCE_S)
        self._run.absences.end(*self._parts)


def _fill(path: Path, free: int) -> None:
    """Write until a disk is full."""
    with suppress(OSError), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
