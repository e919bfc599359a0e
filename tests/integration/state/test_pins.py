"""Pins and marks on originals, on a real server and on a real cluster."""

from shared.state import Client, State


def test_only_what_is_being_deleted_is_waited_for_by_who_pins_it(redis: Client) -> None:
    pins = State.of(redis).pins
    digests = [f"{number:064x}" for number in range(20)]
    assert pins.pin_all(digests, "upload") == set()
    pins.unpin(digests[:10], "upload")
    assert pins.mark(digests[5:15], "deletion", seconds=60.0) == []
    assert pins.pin_all(digests, "another") == set(digests[5:15]) == pins.marked(digests)
    assert pins.pinned(digests) == set(digests)
    assert pins.pinned(digests, but_by="another") == set(digests[10:])
    pins.unmark(digests[5:15], "deletion")
    assert pins.marked(digests) == set()
    assert (pins.pin_all([], "another"), pins.marked([])) == (set(), set())
