"""Ports: none that is taken, none twice, those of the earlier start where they are free."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local.ports import FreePorts, PortTaken, is_free, require_free

NAMES = ("valkey-index", "valkey-broker", "model-server", "query", "objects-s3", "objects-master")


@contextmanager
def taken(port: int = 0, host: str = "127.0.0.1") -> Iterator[int]:
    """Listen at a port, a free one by default."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.bind((host, port))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_someone_listens_at_is_not_free() -> None:
    with taken() as port:
        assert not is_free(port)
    assert is_free(port)


def test_a_port_that_is_closed_but_still_lingers_is_free() -> None:
    """A server that was stopped with clients connected can start again at once."""
    with taken() as port, socket.create_connection(("127.0.0.1", port)) as client:
        pass
    assert client.fileno() == -1
    assert is_free(port)


def test_a_port_taken_at_all_addresses_is_not_free_at_one() -> None:
    with taken(host="0.0.0.0") as port:  # noqa: S104 -- for the moment of this test
        assert not is_free(port)


def test_the_taken_port_is_told_with_its_name_and_the_remedy() -> None:
    with taken() as port:
        with pytest.raises(PortTaken) as refused:
            require_free(port, "127.0.0.1", "web page", "choose another with --port")
        for part in (str(port), "web page", "choose another with --port"):
            assert part in str(refused.value)
    require_free(port, "127.0.0.1", "web page", "")


def test_no_port_is_handed_out_twice_nor_as_a_twin() -> None:
    ports = FreePorts({})
    given = [port for name in NAMES for port in _with_twin(ports, name)]
    assert len(set(given)) == len(given)
    assert all(is_free(port) for port in given)


@pytest.mark.parametrize("offset", [0, 10_000])
def test_a_port_is_not_handed_out_to_two_systems_though_nobody_listens_yet(offset: int) -> None:
    """A model server listens only once its models are loaded."""
    first = FreePorts({})
    port = first.take("objects-s3", with_grpc_twin=True) + offset
    assert is_free(port)
    assert FreePorts({"model-server": port}).take("model-server") != port
    del first
    assert FreePorts({"model-server": port}).take("model-server") == port


def _with_twin(ports: FreePorts, name: str) -> list[int]:
    port = ports.take(name, with_grpc_twin=name.startswith("objects"))
    return [port, port + 10_000] if name.startswith("objects") else [port]


def test_the_same_ports_are_found_again() -> None:
    first = FreePorts({})
    earlier = {name: first.take(name) for name in NAMES}
    del first  # that system has ended
    second = FreePorts(earlier)
    assert {name: second.take(name) for name in reversed(NAMES)} == earlier


@pytest.mark.parametrize("offset", [0, 10_000])
def test_an_earlier_port_that_is_taken_now_itself_or_by_its_twin_is_left(offset: int) -> None:
    earlier = FreePorts({}).take("objects-s3", with_grpc_twin=True)
    with taken(earlier + offset):
        port = FreePorts({"objects-s3": earlier}).take("objects-s3", with_grpc_twin=True)
    assert port != earlier


def test_one_earlier_port_under_two_names_is_handed_out_once() -> None:
    free = FreePorts({}).take("query")
    ports = FreePorts({"query": free, "model-server": free})
    assert ports.take("query") == free
    assert ports.take("model-server") != free


def test_a_reserved_port_is_left_though_it_is_free_now() -> None:
    """The page's port is chosen by the user, and taken last."""
    wanted = FreePorts({}).take("query")
    assert FreePorts({}, reserved=[wanted]).take("query") != wanted
    assert FreePorts({"query": wanted}, reserved=[wanted]).take("query") != wanted
    twin = FreePorts({}).take("objects-s3", with_grpc_twin=True)
    assert FreePorts({}, reserved=[twin + 10_000]).take("objects-s3", with_grpc_twin=True) != twin
