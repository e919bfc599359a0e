"""TLS on gRPC against a server of ours: each side knows the other by the authority that signed its certificate."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from local.certificates import make_certificates
from shared.errors import Invalid
from shared.rpc.tls import GrpcTls, grpc_tls, listen, open_channel
from shared.settings import Settings
from tests.support.eventually import PATIENCE_S


def made(name: str) -> GrpcTls:
    ca, certificate, key = (text.encode() for text in make_certificates(name))
    return GrpcTls(ca, key, certificate)


@pytest.fixture(scope="module")
def own() -> GrpcTls:
    return made("own")


@pytest.fixture(scope="module")
def port(own: GrpcTls) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    number = listen(server, "127.0.0.1:0", own)
    server.start()
    yield number
    server.stop(None).wait()


def ask(port: int, tls: GrpcTls | None) -> grpc.StatusCode:
    with open_channel(f"127.0.0.1:{port}", tls) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_who_shows_a_certificate_of_the_authority_is_answered(port: int, own: GrpcTls) -> None:
    assert ask(port, own) is grpc.StatusCode.OK


def test_all_others_are_refused(port: int, own: GrpcTls) -> None:
    strange = made("strange")
    strangers = [
        None,
        GrpcTls(own.ca),
        GrpcTls(own.ca, strange.key, strange.certificate),
    ]
    assert {ask(port, tls) for tls in strangers} == {grpc.StatusCode.UNAVAILABLE}


def test_a_server_of_another_authority_is_refused(port: int, own: GrpcTls) -> None:
    assert ask(port, GrpcTls(made("strange").ca, own.key, own.certificate)) is grpc.StatusCode.UNAVAILABLE


def test_a_server_on_a_busy_machine_is_waited_for() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = listen(server, "127.0.0.1:0", None)  # from now on connections are made, and get no answer
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, port, None)
        with suppress(TimeoutError):
            asked.result(timeout=0.5)
        server.start()
        assert asked.result() is grpc.StatusCode.OK
    server.stop(None).wait()


def test_a_server_needs_a_certificate(own: GrpcTls) -> None:
    with pytest.raises(Invalid, match="ARTSEEK_GRPC_CERTIFICATE"):
        listen(grpc.server(ThreadPoolExecutor(1)), "127.0.0.1:0", GrpcTls(own.ca))


def test_a_file_that_holds_no_certificate_is_told_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"ARTSEEK_GRPC_CA.*cannot be read"):
        grpc_tls(Settings(grpc_ca=tmp_path / "none"))  # type: ignore[call-arg]
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(Invalid, match=r"ARTSEEK_GRPC_CA.*no PEM"):
        grpc_tls(Settings(grpc_ca=tmp_path / "text"))  # type: ignore[call-arg]
