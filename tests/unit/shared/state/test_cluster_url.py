"""The URL of a cluster: what it says of nodes and connections, and what is refused."""

import pytest
from redis.exceptions import RedisError

from shared.errors import IndexUnavailable, Invalid
from shared.state import connect, guarded
from shared.state.cluster import parse_cluster_url


@pytest.mark.parametrize(
    ("url", "nodes", "options"),
    [
        ("redis+cluster://one", [("one", 6379)], {}),
        ("redis+cluster://one:7001,two:7002,three", [("one", 7001), ("two", 7002), ("three", 6379)], {}),
        ("redis+cluster://:a%2Cb%40c@one:1,two:2/0", [("one", 1), ("two", 2)], {"password": "a,b@c"}),
        (
            "redis+cluster://me:pw@[::1]:7001,[fe80::2]",
            [("::1", 7001), ("fe80::2", 6379)],
            {"username": "me", "password": "pw"},
        ),
        ("rediss+cluster://one:1?ssl_cert_reqs=none", [("one", 1)], {"ssl": True, "ssl_cert_reqs": "none"}),
        ("redis+cluster://one:1?socket_timeout=1.5", [("one", 1)], {"socket_timeout": 1.5}),
    ],
)
def test_a_cluster_is_named_by_some_of_its_nodes(
    url: str, nodes: list[tuple[str, int]], options: dict[str, object]
) -> None:
    assert parse_cluster_url(url) == (nodes, options)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://:secret@",
        "redis+cluster://:secret@one:many",
        "redis+cluster://:secret@one:1,",
        "redis+cluster://:secret@one:1,:2",
        "redis+cluster://:secret@one:70000",
        "redis+cluster://:secret@one:1/3",
        "redis+cluster://:secret@one:1?socket_timeout=soon",
    ],
)
def test_another_form_is_refused_without_repeating_the_password(url: str) -> None:
    with pytest.raises(Invalid, match=r"redis\+cluster://\[\[user\]:password@\]host:port") as refused:
        connect(url)
    assert "secret" not in str(refused.value)


def test_nothing_is_sent_before_the_first_command() -> None:
    connect("redis+cluster://:pw@127.0.0.1:1,127.0.0.1:2")


def test_an_error_that_no_one_expects_is_not_taken_for_a_server_that_is_away() -> None:
    with pytest.raises(RedisError, match="strange") as raised, guarded():
        raise RedisError("strange")
    assert not isinstance(raised.value, IndexUnavailable)
