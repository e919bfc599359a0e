"""Claims, indexed segments and index states on a real server and on a real cluster."""

from concurrent.futures import ThreadPoolExecutor

from shared.state import Client, IndexState, State, connect


def test_an_image_is_claimed_by_the_first_and_by_nobody_else(redis: Client) -> None:
    state = State.of(redis)
    assert state.claims.claim("art", "a", [1, 2]) == ["a", "a"]
    assert state.claims.claim("art", "b", [2, 3]) == ["a", "b"]
    assert state.claims.claim("art", "a", [1, 2]) == ["a", "a"]
    assert state.claims.claim("other", "c", [1]) == ["c"]
    assert state.claims.holders("art", [3, 2, 1, 9]) == ["b", "a", "a", None]
    assert (state.claims.count("art"), state.claims.count("other"), state.claims.count("none")) == (3, 1, 0)
    assert (state.claims.claim("art", "a", []), state.claims.holders("art", [])) == ([], [])


def test_of_many_at_once_exactly_one_gets_each_image(url: str) -> None:
    images = list(range(1, 201))

    def claim(segment: str) -> list[str]:
        return State.of(connect(url)).claims.claim("art", segment, images)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(claim, [f"segment-{number}" for number in range(8)]))
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0]) <= {f"segment-{number}" for number in range(8)}


def test_only_its_holder_releases_an_image(redis: Client) -> None:
    state = State.of(redis)
    state.claims.claim("art", "a", [1, 2])
    state.claims.release("art", "b", [1, 2])
    assert state.claims.holders("art", [1, 2]) == ["a", "a"]
    state.claims.release("art", "a", [1, 77])
    assert state.claims.holders("art", [1, 2]) == [None, "a"]
    state.claims.take_over("art", "b", [2])
    state.claims.release("art", "a", [2])
    state.claims.release("art", "a", [])
    state.claims.take_over("art", "a", [])
    assert state.claims.holders("art", [2]) == ["b"]


def test_indexed_segments_and_states_are_kept_apart_by_collection(redis: Client) -> None:
    state = State.of(redis)
    assert state.index_states.get("art") is None
    state.index_states.set("art", IndexState())
    assert state.index_states.get("art") == IndexState()
    assert IndexState().generations == ()
    state.index_states.set("art", IndexState(3, 4, 500))
    assert state.index_states.get("art") == IndexState(3, 4, 500)
    assert IndexState(3, 4, 500).generations == (3, 4)
    assert state.index_states.create("art") == IndexState(3, 4, 500)  # another process was first
    assert state.index_states.create("other") == state.index_states.get("other") == IndexState()
    state.indexed_segments.add("art", "a")
    assert state.indexed_segments.contain("art", ["b", "a"]) == [False, True]
    assert state.indexed_segments.contain("other", ["a"]) == [False]
    assert state.indexed_segments.contain("art", []) == []
    state.claims.claim("art", "a", [1])
    state.claims.claim("other", "a", [1])
    state.forget("art")
    assert (state.index_states.get("art"), state.claims.count("art"), state.indexed_segments.contain("art", ["a"])) == (
        None,
        0,
        [False],
    )
    assert state.claims.count("other") == 1
