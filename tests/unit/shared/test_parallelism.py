"""What is embedded at a time follows from the cores, and what is set counts instead."""

import subprocess
import sys

import pytest

from services.model_server.__main__ import parse
from shared.parallelism import Parallelism
from shared.usable_cores import usable_cores
from tests.support.paths import ROOT
from tests.support.processes import bare_environment


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (4, 2), (8, 4), (16, 4), (64, 4)])
def test_embedders_grow_with_the_cores_up_to_four(cores: int, processes: int) -> None:
    assert Parallelism.of_cores(cores).embed_processes == processes


@pytest.mark.parametrize(("cores", "requests"), [(1, 8), (2, 8), (4, 16), (8, 32), (16, 64)])
def test_a_call_of_the_model_has_a_thread_for_each_core(cores: int, requests: int) -> None:
    found = Parallelism.of_cores(cores)
    assert (found.model_threads, found.model_calls, found.model_requests) == (cores, cores, requests)


def test_the_model_server_takes_the_cores_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.model_server.__main__.usable_cores", lambda: 3)
    found = parse(["--model_config_file=models.config"])
    assert (found.tensorflow_intra_op_parallelism, found.tensorflow_inter_op_parallelism) == (3, 3)
    assert found.grpc_max_threads == 12
    found = parse(["--model_config_file=models.config", "--tensorflow_intra_op_parallelism=1", "--grpc_max_threads=9"])
    assert (found.tensorflow_intra_op_parallelism, found.tensorflow_inter_op_parallelism) == (1, 3)
    assert found.grpc_max_threads == 9


@pytest.mark.slow
@pytest.mark.parametrize("setting", [0, 5])
def test_an_embedder_has_as_many_processes_as_are_set(setting: int) -> None:
    asked = "from services.embedder.app import app; print(app.conf.worker_concurrency)"
    environment = bare_environment(ARTSEEK_EMBED_PROCESSES=str(setting))
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == (setting or Parallelism.of_cores(usable_cores()).embed_processes)
