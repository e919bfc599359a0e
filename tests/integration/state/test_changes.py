"""The stream of changes on a real server and on a real cluster."""

import threading
import time

from shared.state import Change, Changes, Client, connect


def test_changes_are_followed_in_order_from_a_position_on(redis: Client) -> None:
    changes = Changes(redis)
    start = changes.position()
    assert start == "0-0"
    told = [Change("art", "collection"), Change("art", "segment", "a"), Change("art", "deleted", "a/5")]
    for change in told:
        changes.announce(change)
    assert changes.since(start) == (changes.position(), told)
    position = changes.position()
    assert changes.since(position) == (position, [])
    changes.announce(Change("b", "dropped"))
    answer = changes.since(position)
    assert answer is not None
    assert answer[1] == [Change("b", "dropped")]


def test_a_follower_waits_for_an_announcement(url: str) -> None:
    timer = threading.Timer(0.2, lambda: Changes(connect(url)).announce(Change("art", "index")))
    timer.start()
    answer = Changes(connect(url)).since("0-0", block_ms=20_000)
    assert answer is not None
    assert answer[1] == [Change("art", "index")]


def test_a_stream_that_lost_the_position_says_so(redis: Client) -> None:
    changes = Changes(redis)
    changes.announce(Change("art", "index"))
    position = changes.position()
    redis.flushall()
    assert changes.since(position) is None
    time.sleep(0.002)  # the server names an entry by the millisecond
    changes.announce(Change("art", "index"))
    assert changes.since(position) is None
    position = changes.position()
    for _ in range(5):
        changes.announce(Change("art", "index"))
    redis.xtrim("changes", maxlen=3, approximate=False)
    assert changes.since(position) is None


def test_an_announcement_of_a_later_version_is_passed_over(redis: Client) -> None:
    changes = Changes(redis)
    redis.xadd("changes", {"c": "art", "k": "unheard-of", "v": ""})
    changes.announce(Change("art", "rebuilt"))
    answer = changes.since("0-0")
    assert answer == (changes.position(), [Change("art", "rebuilt")])
