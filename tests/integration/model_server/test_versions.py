"""Versions of a model that come, go and fail while the model server runs."""

import itertools
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from shared.rpc.serving.client import ServingClient, VersionStatus
from shared.rpc.serving.errors import ModelNotFound, ModelUnavailable
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.model_servers import (
    State,
    mean_colours,
    random_images,
    request_for,
    save_tiny,
    serving,
)


def test_a_new_version_takes_over_without_a_gap(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    images = random_images(2, 8)
    with serving(tmp_path, "tiny") as server, ServingClient(server.target, "tiny") as pinned:
        np.testing.assert_allclose(pinned.embed(images), mean_colours(images, 1), rtol=1e-5)

        answered: list[int] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                answer = server.predict(request_for(images))
                factor = answer.model_spec.version.value
                np.testing.assert_allclose(
                    tf.make_ndarray(answer.outputs["embeddings"]), mean_colours(images, factor), rtol=1e-5
                )
                answered.append(factor)

        with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
            stack.callback(done.set)
            asking = [pool.submit(ask) for _ in range(2)]
            save_tiny(tmp_path / "tiny" / "2", factor=2)
            server.wait_for_state("tiny", 1, State.END)
            count = len(answered)
            eventually(lambda: len(answered) > count + 10)
            done.set()
            for future in asking:
                future.result()  # no call failed
        assert [version for version, _ in itertools.groupby(sorted(answered))] == [1, 2]
        assert set(answered[count + 2 :]) == {2}
        assert server.states("tiny")[2].state == State.AVAILABLE

        # Versions have embeddings of their own: the old client does not silently take those of the new version.
        with pytest.raises(ModelNotFound, match=r"Specific\(tiny, 1\)"):
            pinned.embed(images)
        with ServingClient(server.target, "tiny") as fresh:
            np.testing.assert_allclose(fresh.embed(images), mean_colours(images, 2), rtol=1e-5)
            assert [entry.state for entry in fresh.status()] == ["END", "AVAILABLE"]

        shutil.rmtree(tmp_path / "tiny" / "2")
        server.wait_for_state("tiny", 2, State.END)
        np.testing.assert_allclose(pinned.embed(images), mean_colours(images, 1), rtol=1e-5)


def test_a_broken_version_is_reported_while_the_old_one_serves_on(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    images = random_images(2, 8)
    with serving(tmp_path, "tiny") as server, ServingClient(server.target, "tiny") as client:
        broken = tmp_path / "tiny" / "2"
        broken.mkdir()
        (broken / "saved_model.pb").write_bytes(b"no model")
        status = server.wait_for_state("tiny", 2, State.END)
        assert status.status.error_code != 0
        assert status.status.error_message
        assert server.states("tiny")[1].state == State.AVAILABLE
        np.testing.assert_allclose(client.embed(images), mean_colours(images, 1), rtol=1e-5)
        assert server.predict(request_for(images)).model_spec.version.value == 1
        assert client.status()[1] == VersionStatus(2, "END", status.status.error_message)
        assert server.health() == health_pb2.HealthCheckResponse.SERVING

        # One that loads but cannot answer its own warm-up requests is broken as well.
        save_tiny(tmp_path / "tiny" / "3", factor=3)
        eventually(lambda: server.states("tiny").get(3) and server.states("tiny")[3].state == State.AVAILABLE)
        building = tmp_path / "building"
        save_tiny(building / "tiny" / "4", factor=4)
        warmup = building / "tiny" / "4" / "assets.extra" / "tf_serving_warmup_requests"
        warmup.parent.mkdir()
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.CopyFrom(request_for(random_images(1, 9)))
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(log.SerializeToString())
        (building / "tiny" / "4").rename(tmp_path / "tiny" / "4")
        assert "shape" in server.wait_for_state("tiny", 4, State.END).status.error_message
        assert server.predict(request_for(images)).model_spec.version.value == 3

        # Mended files are noticed.
        warmup = tmp_path / "tiny" / "4" / "assets.extra" / "tf_serving_warmup_requests"
        log.predict_log.request.CopyFrom(request_for(images))
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(log.SerializeToString())
        server.wait_for_state("tiny", 4, State.AVAILABLE)


def test_a_killed_server_that_comes_back_is_used_by_the_same_client(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    images = random_images(2, 8)
    with serving(tmp_path, "tiny") as server, ServingClient(server.target, "tiny") as client:
        expected = client.embed(images)
        for _ in range(2):
            server.kill()
            with pytest.raises(ModelUnavailable, match="UNAVAILABLE"):
                client.embed(images)
            server.start()

            def again() -> npt.NDArray[np.float32] | None:
                try:
                    return client.embed(images)
                except ModelUnavailable:  # and nothing else, or the caller would give up
                    return None

            def answered() -> bool:
                found = again()
                return found is not None and np.array_equal(found, expected)

            eventually(answered)


def test_calls_that_run_are_finished_before_the_server_stops(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny" / "1", factor=1)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = "work"
    request.inputs["rounds"].CopyFrom(tf.make_tensor_proto(np.int32(400)))
    with serving(tmp_path, "tiny") as server:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(server.channel)
        running = stub.Predict.future(request, timeout=PATIENCE_S)
        server.predict(
            request_for(random_images(1, 8))
        )  # behind it on the same connection: once answered, the first has arrived
        server.process.terminate()
        assert running.result().outputs["result"].float_val[0] == 1.0
        assert server.process.wait(PATIENCE_S) == 0
