"""The running system for tests of several kinds, and which tests are slow."""

import fcntl
import os
import sqlite3  # noqa: F401 -- before TensorFlow, whose own SQLite has no FTS5 and would be taken for it
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from local.demo import sample_gallery
from shared.tensorflow_runtime import enable_onednn
from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.scheduling import StackScheduling
from tests.support.stack import Stack, start_stack

_SLOW_FOLDERS = (ROOT / "tests" / "integration", ROOT / "tests" / "browser")

# On a busy machine a deadline would fail, and generating examples seem slow. `make test-fast` takes the profile "fast".
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", settings.get_profile("default"), max_examples=20)

# What hypothesis makes up is to depend on its seed alone, and not on which of our modules a process has imported.
patch("hypothesis.internal.conjecture.providers.is_local_module_file", return_value=False).start()

enable_onednn()  # before any test imports TensorFlow


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave modules of slow tests unopened where only others are wanted: to import TensorFlow takes seconds."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.slow\n" in collection_path.read_text("utf-8") else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> StackScheduling:
    """Hand out files of tests to processes in our own way; called only where there are several."""
    return StackScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts servers, by its folder, as slow; a slow unit test says so itself.

    Files with slow tests come first: where several processes take them in turn, none of them gets a long file at the
    end, for which the others would wait.
    """
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in _SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample gallery: five class folders. Processes that run tests beside each other share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "gallery.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sample_gallery.render(folder / "gallery", works=60, seed=0)
    return folder / "gallery"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Iterator[Stack]:
    """The whole system with the sample gallery in the collection ``default``; tests leave that collection as it is."""
    port = free_port()
    own = {"ARTSEEK_FETCH_ALLOW": f"127.0.0.1:{port}"}  # so that its own images are pictures at an address
    running = start_stack(tmp_path_factory.mktemp("stack"), port=port, environment=own)
    try:
        running.artseek("ingest", str(gallery), "--labels-from-folders")
        yield running
    finally:
        running.stop()
