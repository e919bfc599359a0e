"""What an operator is told whose cluster cannot be used."""

import pytest
import redis as redis_py

from shared.errors import IndexUnavailable
from shared.state import BucketStore, State, check, connect
from tests.support.cluster_servers import BUCKETS, PASSWORD, ClusterServers, one_on
from tests.support.processes import free_port
from tests.support.servers import Servers


def test_a_url_of_the_wrong_kind_is_told_as_that(servers: Servers, cluster: ClusterServers) -> None:
    plain, spread = servers.settings.index_url.get_secret_value(), cluster.url
    name = one_on(cluster, cluster.nodes[1], "members:{}")
    as_plain = connect(f"redis://:{PASSWORD}@{cluster.nodes[0].name}/0", retries=0)
    as_cluster = connect(plain.replace("redis://", "redis+cluster://"), retries=0)
    for call in (lambda: check(as_plain), lambda: State.of(as_plain).claims.count(name)):
        with pytest.raises(IndexUnavailable, match=r"runs as a cluster.*ARTSEEK_INDEX_URL.*redis\+cluster://"):
            call()
    for call in (lambda: check(as_cluster), lambda: State.of(as_cluster).claims.count(name)):
        with pytest.raises(IndexUnavailable, match=r"single server.*ARTSEEK_INDEX_URL.*redis://"):
            call()
    check(connect(plain))
    check(connect(spread))


@pytest.mark.parametrize("password", [":wrong@", ""])
def test_a_wrong_password_is_told_as_that(cluster: ClusterServers, password: str) -> None:
    url = f"redis+cluster://{password}{cluster.url.rpartition('@')[2]}"
    with pytest.raises(IndexUnavailable, match=r"check (the|user and) password"):
        State.of(connect(url, retries=0)).claims.count("art")


def test_a_cluster_of_which_no_node_answers_is_unavailable() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with pytest.raises(IndexUnavailable, match="does not answer"):
        State.of(connect(url, retries=0)).claims.count("art")


def test_an_error_of_a_command_is_not_taken_for_a_node_that_is_away(cluster: ClusterServers) -> None:
    connect(cluster.url).set(BUCKETS[1], "no set")
    with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
        BucketStore(connect(cluster.url)).add(BUCKETS, [1] * len(BUCKETS))
