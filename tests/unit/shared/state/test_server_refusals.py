"""What a Redis or Valkey says that does not do what it is asked: "not now" is waited for, a wrong setting is told."""

from collections.abc import Callable

import pytest
import redis as redis_py

from shared.errors import (
    BrokerMisconfigured,
    BrokerUnavailable,
    IndexMisconfigured,
    IndexUnavailable,
    Misconfigured,
)
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import TaskQueue
from shared.settings import Settings
from shared.state import Client, connect
from shared.state.connection import guarded
from tests.support.refusing_server import foreign_server, refusing_server

NOT_NOW = {
    "MISCONF Errors writing to the AOF file: No space left on device": "full disk",
    "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk.": "full disk",
    "NOREPLICAS Not enough good replicas to write.": "min-replicas-to-write",
    "READONLY You can't write against a read only replica.": "the primary",
    "LOADING Valkey is loading the dataset in memory": "LOADING",
    "OOM command not allowed when used memory > 'maxmemory'.": "maxmemory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "Link with MASTER",
    "CLUSTERDOWN The cluster is down": "cluster is down",
    "CLUSTERDOWN Hash slot not served": "not served",
    "TRYAGAIN Multiple keys request during rehashing of slot": "rehashing",
    "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": "script",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": "replica",
    "ERR max number of clients reached": "maxclients",
    "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write": "the primary",
    "MISCONF Errors writing to the AOF file: I/O error script: 4ca2, on @user_script:1.": "full disk",
}
WRONG = {
    "NOAUTH Authentication required.": "password",
    "WRONGPASS invalid username-password pair or user is disabled.": "password",
    "NOPERM User worker has no permissions to run the 'eval' command": "right",
    "DENIED Valkey is running in protected mode because protected mode is enabled": "password",
    "ERR unknown command 'SMISMEMBER', with args beginning with: 'set-aside:1'": "6.2",
    "ERR AUTH <password> called without any password configured for the default user.": "leave the one",
}

Call = Callable[[Client], object]


def _command(client: Client) -> object:
    return client.set("key", "value")


def _pipeline(client: Client) -> object:
    pipeline = client.pipeline(transaction=False)
    pipeline.get("a key of NOAUTH caused error: NOPERM")
    pipeline.hset("key", "field", "value")
    return pipeline.execute()


def _script(client: Client) -> object:
    return client.eval("return redis.call('SET', KEYS[1], 'value')", 1, "key")


CALLS = {"command": _command, "pipeline": _pipeline, "script": _script}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("answer", NOT_NOW)
def test_not_now_is_an_index_that_is_unavailable(answer: str, call: Call) -> None:
    with refusing_server(answer) as url, pytest.raises(IndexUnavailable, match=NOT_NOW[answer]) as caught, guarded():
        call(connect(url, retries=0))
    assert not isinstance(caught.value, Misconfigured)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("answer", WRONG)
def test_what_no_waiting_mends_names_the_setting_or_the_remedy(answer: str, call: Call) -> None:
    with refusing_server(answer) as url, pytest.raises(IndexMisconfigured, match=WRONG[answer]), guarded():
        call(connect(url, retries=0))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_of_another_protocol_names_the_setting(call: Call) -> None:
    told = pytest.raises(IndexMisconfigured, match=r"another protocol.*ARTSEEK_INDEX_URL")
    with foreign_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url, told, guarded():
        call(connect(url, retries=0))


@pytest.mark.parametrize("code", ["NOREPLICAS", "READONLY", "LOADING", "NOAUTH", "NOPERM"])
def test_a_broker_says_the_same_though_kombu_wraps_some_of_it(code: str) -> None:
    answer = next(one for one in (*NOT_NOW, *WRONG) if one.startswith(code))
    with refusing_server(answer) as url:
        app = make_app(Settings.model_validate({"broker_url": url}), name="test")
        app.conf.task_publish_retry_policy = {"max_retries": 0}
        wanted = BrokerUnavailable if answer in NOT_NOW else BrokerMisconfigured
        with pytest.raises(wanted, match="the broker") as caught:
            TaskQueue(app).drop(job="j", collection="art")
    assert isinstance(caught.value, Misconfigured) == (answer in WRONG)


@pytest.mark.parametrize(
    "answer", ["WRONGTYPE Operation against a key holding the wrong kind of value", "ERR syntax error"]
)
def test_a_fault_of_a_command_is_raised_as_it_is(answer: str) -> None:
    with refusing_server(answer) as url, pytest.raises(redis_py.ResponseError), guarded():
        connect(url, retries=0).set("key", "MISCONF READONLY")
