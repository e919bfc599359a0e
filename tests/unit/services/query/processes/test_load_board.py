"""The load board says of each process how busy it is, to all who have opened it."""

from pathlib import Path

from services.query.processes.load_board import LoadBoard


def test_who_opens_the_board_sees_what_the_others_do(tmp_path: Path) -> None:
    made = LoadBoard.make(tmp_path / "board", 3)
    first, second = (LoadBoard(tmp_path / "board", 3) for _ in range(2))
    assert [made.load(process) for process in range(len(made))] == [None, None, None]
    first.enter(0)
    second.enter(1)
    with first.working(0), first.working(0), second.working(1):
        assert [made.load(process) for process in range(3)] == [2, 1, None]
    assert [made.load(process) for process in range(3)] == [0, 0, None]


def test_a_process_that_has_left_stays_away_when_it_finishes_its_requests(tmp_path: Path) -> None:
    board = LoadBoard.make(tmp_path / "board", 1)
    board.enter(0)
    with board.working(0):
        board.leave(0)
        with board.working(0):
            pass
    assert board.load(0) is None
