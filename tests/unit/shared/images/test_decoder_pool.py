"""Images are decoded in processes that can be ended: what they do, no other image and no service suffers from."""

import ast
import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
import psutil
import pytest
from PIL import Image

from shared.errors import Unavailable
from shared.images import DirectDecoder, ImageRefused
from shared.images import decoder_pool as pool_module
from shared.images.decoder_pool import DecoderDied, DecoderPool, DecodersBusy, Queue, WorkLimits
from shared.images.decoding_process import DecodingProcess, _environment
from tests.support import bombs
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.odd_decoding_child import CRASH, ESCAPE, FILL, HANG, LIE
from tests.support.paths import ROOT
from tests.support.processes import bare_environment

pytestmark = pytest.mark.slow  # it starts processes

_CHILD = "tests.support.odd_decoding_child"
_NEVER_S = 3600.0


def saved(kind: str) -> bytes:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


GOOD = saved("PNG")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    monkeypatch.setenv("ARTSEEK_S3_SECRET_KEY", "secret")
    made = DecoderPool(work=WorkLimits(clock_s=_NEVER_S), processes=1, queue=Queue(waiting=1), module=_CHILD)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    """The processes of pools: no zombies."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if _CHILD in process.cmdline():
                found.append(process)
    return found


def child() -> psutil.Process:
    """The one process of a pool."""
    (found,) = children()
    return found


def reason(pool: DecoderPool, data: bytes) -> str:
    with pytest.raises(ImageRefused) as refused:
        pool.decode(data, size=8)
    return refused.value.reason


def is_good(pool: DecoderPool) -> bool:
    return pool.decode(GOOD, size=8)[0].shape == (8, 8, 3)


def test_a_process_decodes_as_we_do(pool: DecoderPool) -> None:
    direct = DirectDecoder()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        data = saved(kind)
        (pixels, info), (expected, expected_info) = pool.decode(data, size=32), direct.decode(data, size=32)
        assert np.array_equal(pixels, expected)
        assert info == expected_info == pool.identify(data)
        assert pixels.flags.writeable
        assert pool.thumbnail(data, box=16) == direct.thumbnail(data, box=16)
        assert pool.tile(data, part=(0, 0, 20, 16), shrink=2) == direct.tile(data, part=(0, 0, 20, 16), shrink=2)
        assert np.array_equal(pool.grey(data, side=8), direct.grey(data, side=8))
    first = child().pid
    with pytest.raises(ImageRefused, match="web page") as refused:
        pool.identify(b"<html>")
    assert refused.value.reason == "not-an-image"
    for bomb in bombs.all_kinds().values():
        with pytest.raises(ImageRefused):
            pool.decode(bomb, size=8)
    assert is_good(pool)
    assert child().pid == first


def test_a_file_that_is_too_large_is_not_even_sent(pool: DecoderPool) -> None:
    pool.limits = replace(pool.limits, max_bytes=10)
    assert reason(pool, bytes(11)) == "too-large"
    assert not children()


def test_a_process_has_no_secrets_and_opens_nothing(pool: DecoderPool) -> None:
    with pytest.raises(ImageRefused) as refused:
        pool.identify(ESCAPE)
    assert refused.value.message == "[]"
    assert "ARTSEEK_S3_SECRET_KEY" not in child().environ()


def test_a_process_finds_its_modules_where_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, whose packages are in a folder that the environment names."""
    environment = _environment()
    assert set(filter(os.path.isabs, sys.path)) <= set(environment["PYTHONPATH"].split(os.pathsep))
    monkeypatch.setattr(sys, "path", ["", "relative", "/opt/packages"])
    assert _environment()["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/opt/packages"]


def test_memory_is_refused_and_the_process_lives(pool: DecoderPool) -> None:
    assert is_good(pool)
    first = child().pid
    with pytest.raises(ImageRefused, match="ARTSEEK_DECODE_MEMORY") as refused:
        pool.decode(FILL, size=8)
    assert refused.value.reason == "too-many-pixels"
    assert is_good(pool)
    assert child().pid == first


def test_what_takes_too_much_processor_time_is_ended(pool: DecoderPool) -> None:
    pool._work = replace(pool._work, processor_s=1)
    with pytest.raises(ImageRefused, match="ARTSEEK_DECODE_SECONDS") as refused:
        pool.decode(bombs.hidden_scans(7000, 100), size=8)
    assert refused.value.reason == "too-complex"
    pool._work = replace(pool._work, processor_s=_NEVER_S)
    assert is_good(pool)


def test_a_process_that_dies_or_lies_is_replaced(pool: DecoderPool) -> None:
    with pytest.raises(DecoderDied, match="SIGSEGV") as died:
        pool.decode(CRASH, size=8)
    assert died.value.reason == "decoder-died"
    assert str(pickle.loads(pickle.dumps(died.value))) == str(died.value)  # noqa: S301
    assert is_good(pool)
    first = child()
    with pytest.raises(DecoderDied, match="5 bytes"):
        pool.decode(LIE, size=8)
    assert not first.is_running()
    assert is_good(pool)
    # One that dies while it is idle is no image's fault.
    idle = child()
    idle.kill()
    # A zombie is no proof: its first thread may be dead before the others.
    eventually(lambda: os.waitid(os.P_PID, idle.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    assert is_good(pool)


def test_a_full_queue_answers_by_name_and_goes_on(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_STALLED_S", 0.0)
    pool.warm_up()
    with ThreadPoolExecutor(2) as threads:
        hanging = threads.submit(pool.decode, HANG, size=8)
        eventually(lambda: len(pool._free), until=(0).__eq__)
        waiting = threads.submit(pool.decode, GOOD, size=8)
        eventually(lambda: len(pool._waiting), until=(1).__eq__)
        with pytest.raises(DecodersBusy, match="too many images"):
            pool.decode(GOOD, size=8)
        with pytest.raises(Unavailable), pool.place():
            pass
        # It is ended when its time by the clock is up, or from outside.
        eventually(lambda: child().status(), until=psutil.STATUS_SLEEPING.__eq__)
        child().kill()
        assert isinstance(hanging.exception(PATIENCE_S), DecoderDied)
        assert waiting.result(PATIENCE_S)[0].shape == (8, 8, 3)
    assert is_good(pool)


def test_what_happens_on_the_connection_does_not_end_a_process_at_work(pool: DecoderPool) -> None:
    pool.warm_up()
    (seat,) = pool._free
    assert seat.process is not None
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(pool.decode, HANG, size=8)
        eventually(lambda: len(pool._free), until=(0).__eq__)
        eventually(lambda: child().status(), until=psutil.STATUS_SLEEPING.__eq__)
        # The kernel may tell of a request after it was read, as it tells of these bytes.
        seat.process._socket.send(b"more")
        seat.process._process.kill()
        error = hanging.exception(PATIENCE_S)
    assert "SIGKILL" in str(error)


def test_eight_bombs_at_once_do_not_stop_a_good_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = DecodingProcess.ask

    def ask_soon(process: DecodingProcess, request: object, data: bytes, *, clock_s: float) -> object:
        return ask(process, request, data, clock_s=0.05 if data == HANG else clock_s)  # type: ignore[arg-type]

    monkeypatch.setattr(DecodingProcess, "ask", ask_soon)
    pool = DecoderPool(work=WorkLimits(clock_s=_NEVER_S), processes=2, module=_CHILD)
    with ThreadPoolExecutor(9) as threads:
        hanging = [threads.submit(pool.decode, HANG, size=8) for _ in range(8)]
        good = threads.submit(pool.decode, GOOD, size=8)
        assert good.result(PATIENCE_S)[0].shape == (8, 8, 3)
        for future in hanging:
            error = future.exception(PATIENCE_S)
            assert isinstance(error, DecoderDied)
            assert "by the clock" in str(error)
    pool.close()
    assert not children()


_PARENT = """
import threading, psutil, time
from shared.images.decoder_pool import DecoderPool
pool = DecoderPool(processes=1, module="tests.support.odd_decoding_child")
pool.warm_up()
threading.Thread(target=lambda: pool.decode(b"hang", size=8), daemon=True).start()
(child,) = psutil.Process().children()
print(child.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal for a closed connection is Linux's")
def test_a_process_dies_with_its_parent() -> None:
    environment = bare_environment(PYTHONPATH=str(ROOT))
    with subprocess.Popen([sys.executable, "-c", _PARENT], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        eventually(process.status, until=psutil.STATUS_SLEEPING.__eq__)
        process.send_signal(signal.SIGTERM)  # as a service manager does to all; its parent may want the image done
        assert process.is_running()
        os.kill(parent.pid, signal.SIGKILL)
    eventually(process.is_running, until=False.__eq__)


def test_no_service_decodes_in_its_own_process() -> None:
    own = {"decode", "grey", "identify", "thumbnail", "tile", "DirectDecoder", "decoding"}
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shared.images"):
                assert not own & {name.name for name in node.names}, path
                assert node.module != "shared.images.decoding", path
