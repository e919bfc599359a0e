"""The model server's config and its health, and what it says when it cannot start."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
)

from shared.rpc.serving.client import ServingClient
from shared.rpc.serving.errors import ModelNotFound
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.model_servers import (
    ModelServerProcess,
    State,
    config_text,
    random_images,
    request_for,
    save_tiny,
    serving,
)
from tests.support.paths import ROOT
from tests.support.processes import free_port


def reload(server: ModelServerProcess, *entries: str) -> model_management_pb2.ReloadConfigResponse:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config_text(server.models, *entries), request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(server.channel)
    return stub.HandleReloadConfigRequest(request, timeout=PATIENCE_S)


def test_a_new_config_adds_models_moves_labels_and_drops_models(tmp_path: Path) -> None:
    for name, version in (("tiny", 1), ("tiny", 2), ("other", 5)):
        save_tiny(tmp_path / name / str(version), factor=version)
    images = random_images(1, 8)
    everything = "model_version_policy { all { } }"
    with serving(tmp_path, "tiny model_version_policy { specific { versions: 1 } }") as server:

        def version_of(**choice: Any) -> int:
            return int(server.predict(request_for(images, **choice)).model_spec.version.value)

        assert version_of() == 1
        with pytest.raises(grpc.RpcError, match="not currently available for inference") as caught:
            reload(server, f'tiny {everything} version_labels {{ key: "new" value: 2 }}')
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert version_of() == 1  # a refused config changes nothing

        assert reload(server, f"tiny {everything}", "other").status.error_code == 0
        assert version_of() == 2
        assert version_of(name="other") == 5
        reload(server, f'tiny {everything} version_labels {{ key: "new" value: 2 }}', "other")
        assert version_of(label="new") == 2
        reload(server, f'tiny {everything} version_labels {{ key: "new" value: 1 }}')
        assert version_of(label="new") == 1
        with pytest.raises(grpc.RpcError, match=r"Latest\(other\)"):
            version_of(name="other")

        with pytest.raises(grpc.RpcError, match="did not become available") as caught:
            reload(server, "tiny", "missing")
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        with pytest.raises(grpc.RpcError, match="multiple times") as caught:
            reload(server, "tiny", "tiny")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_changed_config_file_is_followed_when_asked(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    save_tiny(tmp_path / "other" / "5", factor=5)
    with serving(tmp_path, "tiny", flags=("--model_config_file_poll_wait_seconds=0.2",)) as server:
        assert server.states("other") == {}
        (tmp_path / "models.config").write_text("nonsense", "utf-8")
        eventually(lambda: "is not applied" in server.log)
        assert server.states("tiny")[1].state == State.AVAILABLE
        (tmp_path / "models.config").write_text(config_text(tmp_path, "tiny", "other"), "utf-8")
        server.wait_for_state("other", 5, State.AVAILABLE)


def test_health_needs_every_model(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    (tmp_path / "late").mkdir()
    with serving(tmp_path, "tiny", "late") as server:
        assert server.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.predict(request_for(random_images(1, 8))).model_spec.version.value == 1
        with ServingClient(server.target, "late") as client, pytest.raises(ModelNotFound):
            client.signature()
        save_tiny(tmp_path / "late" / "1", factor=1)
        eventually(lambda: server.health() == health_pb2.HealthCheckResponse.SERVING)
        shutil.rmtree(tmp_path / "late" / "1")
        eventually(lambda: server.health() == health_pb2.HealthCheckResponse.NOT_SERVING)

        # A folder that is gone, as when a mount is lost, takes no model away.
        (tmp_path / "tiny").rename(tmp_path / "elsewhere")
        eventually(lambda: "its base path cannot be read" in server.log)
        for version in (2, 3):  # the server looks at the folders again, twice
            save_tiny(tmp_path / "late" / str(version), factor=version)
            server.wait_for_state("late", version, State.AVAILABLE)
        assert server.predict(request_for(random_images(1, 8))).model_spec.version.value == 1
        assert server.log.count("its base path cannot be read") == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("model_config_list { config {", "cannot read the model config file"),
        ('model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" } }', "absolute path"),
    ],
)
def test_a_server_with_a_bad_config_says_why_and_ends(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "models.config").write_text(config, "utf-8")
    command = [sys.executable, "-m", "services.model_server", f"--model_config_file={tmp_path / 'models.config'}"]
    done = subprocess.run(
        [*command, f"--port={free_port()}"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert message in line


def test_a_taken_port_is_named(tiny: ModelServerProcess) -> None:
    command = [sys.executable, "-m", "services.model_server", f"--model_config_file={tiny.models / 'models.config'}"]
    done = subprocess.run(
        [*command, f"--port={tiny.port}"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{tiny.port}" in done.stderr
    assert tiny.health() == health_pb2.HealthCheckResponse.SERVING
